// SPDX-License-Identifier: MIT
// The second CPU of a run: it watches a word of guest memory and acts when the guest says so.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv {

[[nodiscard]] inline bool posts(const abi::Peer& peer) {
    const auto act = static_cast<abi::PeerAct>(peer.act);
    return act == abi::PeerAct::post || (act == abi::PeerAct::guest && peer.address != 0);
}

// Why a peer cannot be; null: it can.
[[nodiscard]] inline const char* fault_of(const abi::Peer& peer, u32 run_cpu, u32 cpus,
                                          const GuestMemory& memory) {
    using enum abi::PeerAct;
    const auto act = static_cast<abi::PeerAct>(peer.act);
    if (act == none || peer.act >= static_cast<u16>(count_)) {
        return "peer: unknown act";
    }
    if (peer.cpu >= cpus || peer.cpu == run_cpu) {
        return "peer: its CPU is the run's, or there is none of that number";
    }
    if (peer.mark % 8 != 0 || !memory.contains(peer.mark, 8)) {
        return "peer: the mark is 8 aligned bytes of guest memory";
    }
    if ((act == interrupt || act == post) && !IpiTarget::is_guests(peer.vector)) {
        return "peer: vectors are 33 to 239";
    }
    if (posts(peer) && (!IpiTarget::is_guests(peer.notification) || peer.address % 64 != 0 ||
                        !memory.contains(peer.address, 64))) {
        return "peer: a post needs a notification vector, 33 to 239, and a descriptor, 64 aligned bytes "
               "of guest memory";
    }
    if (act == write && (peer.address % 8 != 0 || !memory.contains(peer.address, 8))) {
        return "peer: a write goes to 8 aligned bytes of guest memory";
    }
    if ((act == nmi || act == init || act == start_up) && peer.count > abi::max_peer_nmis) {
        return "peer: more NMIs, INITs or start-up IPIs than max_peer_nmis";
    }
    return nullptr;
}

// Does the platform want any of it? Stores to guest memory are nobody else's business.
[[nodiscard]] inline Status permitted(const abi::Peer& peer) {
    using enum abi::PeerAct;
    switch (static_cast<abi::PeerAct>(peer.act)) {
    case none:
    case write:
        return {};
    case nmi:
    case init:
    case start_up:
        return need(Permit::peer_nmis);
    default:
        return need(Permit::host_vectors);
    }
}

// Of a peer that can be.
[[nodiscard]] inline IpiTarget target_of(const abi::Peer& peer, u32 run_cpu, const GuestMemory& memory) {
    return {.cpu = run_cpu,
            .descriptor =
                posts(peer) ? reinterpret_cast<PostedInterruptDescriptor*>(memory.at(peer.address)) : nullptr,
            .notification = peer.notification};
}

// Resets a CPU that is not in VMX operation, or makes one that was reset start anew.
[[nodiscard]] inline bool resets(const abi::Peer& peer) {
    const auto act = static_cast<abi::PeerAct>(peer.act);
    return act == abi::PeerAct::init || act == abi::PeerAct::start_up;
}

// What a guest that is the peer does: runs, until an exit of it was answered. false: it ended otherwise.
struct GuestAct {
    bool (*call)(void* self) = nullptr;
    void* self = nullptr;
};

// Runs on the peer's CPU.
class PeerLoop {
  public:
    PeerLoop(const abi::Peer& peer, u32 run_cpu, const GuestMemory& memory, GuestAct guest,
             abi::PeerStamp* stamps, u32 room)
        : peer_(peer), target_(target_of(peer, run_cpu, memory)), guest_(guest), stamps_(stamps), room_(room),
          mark_(word(memory, peer.mark)), word_(word(memory, peer.address)) {}

    // Acts until `count` are done, one of them could not be done, or end() was called.
    void operator()() {
        act_all();
        __atomic_store_n(&finished_, true, __ATOMIC_RELEASE);
    }

    // Called on the run's CPU: afterwards nothing more comes from here.
    void end() {
        __atomic_store_n(&stop_, true, __ATOMIC_RELEASE);
        while (!__atomic_load_n(&finished_, __ATOMIC_ACQUIRE)) {
            x86::pause();
            (void)platform::take_interrupts(); // its guest may run for long
        }
        constexpr u64 on_its_way = 100'000; // TSC ticks, more than an IPI takes
        for (const u64 begin = x86::rdtsc_fenced();
             done() < peer_.count && x86::rdtsc_fenced() - begin < on_its_way;) {
            x86::pause();
        }
    }
    [[nodiscard]] u64 done() const { return __atomic_load_n(&done_, __ATOMIC_ACQUIRE); }

  private:
    void act_all() {
        for (u64 n = 1; n <= peer_.count; ++n) {
            if (!reached(n)) {
                return;
            }
            const u64 seen = x86::rdtsc_fenced();
            while (peer_.delay != 0 && x86::rdtsc_fenced() - seen < peer_.delay) {
                if (stopped()) {
                    return;
                }
                x86::pause();
            }
            const u64 before = x86::rdtsc_fenced();
            if (!act(n)) {
                return;
            }
            const u64 after = x86::rdtsc_fenced();
            if (n <= room_) {
                stamps_[n - 1] = {before, after};
            }
            __atomic_store_n(&done_, n, __ATOMIC_RELEASE);
        }
    }

    [[nodiscard]] static u64* word(const GuestMemory& memory, u64 gpa) {
        return memory.contains(gpa, 8) ? reinterpret_cast<u64*>(memory.at(gpa)) : nullptr;
    }
    [[nodiscard]] bool stopped() const { return __atomic_load_n(&stop_, __ATOMIC_ACQUIRE); }

    [[nodiscard]] bool reached(u64 n) {
        constexpr u64 turns = 256;
        while (__atomic_load_n(mark_, __ATOMIC_ACQUIRE) < n) {
            if (stopped()) {
                return false;
            }
            x86::pause();
            if (++waited_ % turns == 0) {
                platform::let_host_run();
            }
        }
        return true;
    }

    [[nodiscard]] bool act(u64 n) {
        switch (static_cast<abi::PeerAct>(peer_.act)) {
        case abi::PeerAct::interrupt:
        case abi::PeerAct::post:
            target_.deliver(peer_.vector);
            break;
        case abi::PeerAct::nmi:
            platform::send_nmi(target_.cpu);
            break;
        case abi::PeerAct::init:
            platform::send_init(target_.cpu);
            break;
        case abi::PeerAct::start_up:
            platform::send_start_up(target_.cpu, peer_.vector);
            break;
        case abi::PeerAct::guest:
            return guest_.call(guest_.self);
        default:
            __atomic_store_n(word_, peer_.value + n - 1, __ATOMIC_RELEASE);
            break;
        }
        return true;
    }

    abi::Peer peer_;
    IpiTarget target_;
    GuestAct guest_;
    abi::PeerStamp* stamps_;
    u32 room_;
    const u64* mark_;
    u64* word_;
    u64 done_ = 0, waited_ = 0;
    bool stop_ = false, finished_ = false;
};

} // namespace refhv
