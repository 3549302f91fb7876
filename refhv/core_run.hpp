// SPDX-License-Identifier: MIT
// BasicCore's members, third part: runs, on whichever CPU, with or without a peer.
#pragma once

#include "refhv/core_impl.hpp"
#include "refhv/peer.hpp"
#include "refhv/run.hpp"

namespace refhv {

namespace detail {

// Something to do on a CPU; `*self` is the functor.
struct Task {
    u32 cpu;
    void (*call)(void* self);
    void* self;
};

template <class F>
[[nodiscard]] Task task_on(u32 cpu, F& f) {
    return {cpu, [](void* self) { (*static_cast<F*>(self))(); }, &f};
}

// Does them at the same time, those of CPU 0, which this is, right here; returns when all are done.
template <usize N>
void do_all(const Task (&tasks)[N]) {
    for (const Task& t : tasks) {
        if (t.cpu != 0) {
            platform::start_on(t.cpu, t.call, t.self);
        }
    }
    for (const Task& t : tasks) {
        if (t.cpu == 0) {
            t.call(t.self);
        }
    }
    for (const Task& t : tasks) {
        while (t.cpu != 0 && !platform::is_idle(t.cpu)) {
            x86::pause();
        }
    }
}

} // namespace detail

template <class H>
Status BasicCore<H>::checked(const abi::Run& what, const GuestMemory& memory) const {
    if (what.cpu >= info_.cpus) {
        return refuse(abi::Outcome::unsupported, "run: there is no CPU of this number");
    }
    if ((what.flags & ~u32{abi::run_host_stamps | abi::run_log_exits}) != 0) {
        return refuse(abi::Outcome::bad_request, "run: unknown flags");
    }
    if (what.peer.act == static_cast<u16>(abi::PeerAct::none)) {
        return what.max_peer_stamps == 0 ? Status{}
                                         : refuse(abi::Outcome::bad_request, "run: stamps of no peer");
    }
    if (info_.cpus < 2) {
        return refuse(abi::Outcome::unsupported, "a peer needs a second CPU");
    }
    const char* const fault = fault_of(what.peer, what.cpu, info_.cpus, memory);
    return fault == nullptr ? Status{} : refuse(abi::Outcome::bad_request, fault);
}

// On the run's CPU; the VM's state is back on CPU 0 afterwards.
template <class H>
template <class V>
Status BasicCore<H>::run_here(V& vcpu, Vm& vm, const abi::Run& what, abi::HostStamp* stamps, abi::Exit* exits,
                              abi::RunReply& answer) {
    if (what.cpu != 0) {
        if (const Status s = vcpu.arrive(arena_, what.cpu); !s.ok()) {
            return s;
        }
    }
    const Status status = run_guest<typename H::Snapshot>(vcpu, vm.memory, vm.policy, what, has_tsc_aux_,
                                                          stamps, exits, answer);
    if (what.cpu != 0) {
        vcpu.leave_cpu();
    }
    return status;
}

template <class H>
Status BasicCore<H>::equip(Vm& vm, const abi::Run& what) {
    if (what.extras == 0 || what.extras >> static_cast<u8>(abi::Extra::count_) != 0) {
        return refuse(abi::Outcome::bad_request, "run: unknown extras, or a number without any");
    }
    return visit(vm, [&](auto& v) { return v.equip(arena_, what.extras, what.extra_count); });
}

template <class H>
Status BasicCore<H>::run(const abi::Run& what, ReplyWriter& reply) {
    Vm& vm = vms_[what.vm];
    if (const Status s = checked(what, vm.memory); !s.ok()) {
        return s;
    }
    if (what.extras != 0 || what.extra_count != 0) {
        if (const Status s = equip(vm, what); !s.ok()) {
            return s;
        }
    }
    const u64 peer_bytes = u64{what.max_peer_stamps} * sizeof(abi::PeerStamp);
    const u64 list_bytes =
        u64{what.max_stamps} * sizeof(abi::HostStamp) + u64{what.max_exits} * sizeof(abi::Exit) + peer_bytes;
    if (sizeof(abi::RunReply) + list_bytes > reply.room()) {
        return detail::no_room;
    }
    // Stamps are written where the reply wants them, those of the peer behind the room of the others, from
    // where they move up; the scratch record in front is the tail of the RunReply, which is written last.
    u8* const body = reply.cursor();
    u8* const list = body + sizeof(abi::RunReply);
    auto* const stamps = reinterpret_cast<abi::HostStamp*>(list);
    auto* const exits = reinterpret_cast<abi::Exit*>(list); // instead of stamps
    u8* const peer_list = list + (list_bytes - peer_bytes);
    abi::RunReply answer{};
    Status status;
    visit(vm, [&](auto& vcpu) {
        PeerLoop peer(what.peer, what.cpu, vm.memory, reinterpret_cast<abi::PeerStamp*>(peer_list),
                      what.max_peer_stamps);
        const bool alone = what.peer.act == static_cast<u16>(abi::PeerAct::none);
        auto guest = [&] {
            platform::interrupts_off(); // an NMI of the peer's that finds the run ended is no failure
            status = run_here(vcpu, vm, what, stamps, exits, answer);
            if (!alone) {
                peer.end();
            }
            platform::interrupts_restore();
        };
        if (what.cpu != 0) {
            vcpu.leave_cpu();
        }
        if (alone) {
            detail::do_all({detail::task_on(what.cpu, guest)});
        } else {
            detail::do_all({detail::task_on(what.cpu, guest), detail::task_on(what.peer.cpu, peer)});
            answer.peer_acts = peer.done();
        }
        if (what.cpu != 0) {
            (void)vcpu.arrive(arena_, 0); // it was here before
        }
    });
    if (status.text != nullptr) {
        return status;
    }
    const u64 acts = answer.peer_acts;
    answer.peer_stamp_count = static_cast<u32>(acts < what.max_peer_stamps ? acts : what.max_peer_stamps);
    const u64 used = answer.stamp_count * sizeof(abi::HostStamp) + answer.exit_count * sizeof(abi::Exit);
    __builtin_memmove(list + used, peer_list, answer.peer_stamp_count * sizeof(abi::PeerStamp));
    __builtin_memcpy(body, &answer, sizeof answer);
    reply.claim(sizeof answer + used + answer.peer_stamp_count * sizeof(abi::PeerStamp));
    return status;
}

} // namespace refhv
