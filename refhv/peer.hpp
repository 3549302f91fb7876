// SPDX-License-Identifier: MIT
// The second CPU of a run: it watches a word of guest memory and acts when the guest says so.
#pragma once

#include "refhv/backend.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv {

// The posted-interrupt descriptor (SDM 3C table 30-1): PIR, then a word of control bits.
struct alignas(64) PostedInterruptDescriptor {
    static constexpr u64 outstanding = 1u << 0, suppress = 1u << 1; // ON, SN
    u64 requests[4];
    u64 control; // ON, SN; 15:8 or 23:16 notification vector, 63:32 destination: of who sends, here the peer
    u64 reserved[3];

    // Posts one interrupt as a chipset would: the request, then ON if it may notify. true: the notification
    // is the caller's to send.
    [[nodiscard]] bool post(u8 vector) {
        __atomic_fetch_or(&requests[vector / 64], u64{1} << (vector % 64), __ATOMIC_SEQ_CST);
        u64 seen = __atomic_load_n(&control, __ATOMIC_SEQ_CST);
        while ((seen & (outstanding | suppress)) == 0) {
            if (__atomic_compare_exchange_n(&control, &seen, seen | outstanding, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST)) {
                return true;
            }
        }
        return false;
    }
};
static_assert(sizeof(PostedInterruptDescriptor) == 64);

// Why a peer cannot be; null: it can.
[[nodiscard]] inline const char* fault_of(const abi::Peer& peer, u32 run_cpu, u32 cpus,
                                          const GuestMemory& memory) {
    using enum abi::PeerAct;
    const auto act = static_cast<abi::PeerAct>(peer.act);
    constexpr u8 first = 33; // below are exceptions, and the vector by which native guests end
    const auto is_guests = [](u8 vector) {
        return vector >= first && vector < platform::end_of_guest_vectors;
    };
    if (act == none || peer.act >= static_cast<u16>(count_)) {
        return "peer: unknown act";
    }
    if (peer.cpu >= cpus || peer.cpu == run_cpu) {
        return "peer: its CPU is the run's, or there is none of that number";
    }
    if (peer.mark % 8 != 0 || !memory.contains(peer.mark, 8)) {
        return "peer: the mark is 8 aligned bytes of guest memory";
    }
    if ((act == interrupt || act == post) && !is_guests(peer.vector)) {
        return "peer: vectors are 33 to 239";
    }
    if (act == post &&
        (!is_guests(peer.notification) || peer.address % 64 != 0 || !memory.contains(peer.address, 64))) {
        return "peer: a post needs a notification vector, 33 to 239, and a descriptor, 64 aligned bytes of "
               "guest "
               "memory";
    }
    if (act == write && (peer.address % 8 != 0 || !memory.contains(peer.address, 8))) {
        return "peer: a write goes to 8 aligned bytes of guest memory";
    }
    return nullptr;
}

// What a guest that is the peer does: runs, until an exit of it was answered. false: it ended otherwise.
struct GuestAct {
    bool (*call)(void* self) = nullptr;
    void* self = nullptr;
};

// Runs on the peer's CPU.
class PeerLoop {
  public:
    PeerLoop(const abi::Peer& peer, u32 target, const GuestMemory& memory, GuestAct guest,
             abi::PeerStamp* stamps, u32 room)
        : peer_(peer), target_(target), guest_(guest), stamps_(stamps), room_(room),
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

    [[nodiscard]] bool reached(u64 n) const {
        while (__atomic_load_n(mark_, __ATOMIC_ACQUIRE) < n) {
            if (stopped()) {
                return false;
            }
            x86::pause();
        }
        return true;
    }

    [[nodiscard]] bool act(u64 n) {
        switch (static_cast<abi::PeerAct>(peer_.act)) {
        case abi::PeerAct::interrupt:
            platform::send_interrupt(target_, peer_.vector);
            break;
        case abi::PeerAct::nmi:
            platform::send_nmi(target_);
            break;
        case abi::PeerAct::post:
            if (reinterpret_cast<PostedInterruptDescriptor*>(word_)->post(peer_.vector)) {
                platform::send_interrupt(target_, peer_.notification);
            }
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
    u32 target_;
    GuestAct guest_;
    abi::PeerStamp* stamps_;
    u32 room_;
    const u64* mark_;
    u64* word_;
    u64 done_ = 0;
    bool stop_ = false, finished_ = false;
};

} // namespace refhv
