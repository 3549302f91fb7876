// SPDX-License-Identifier: MIT
// BasicCore's members: runs, on whichever CPU, with or without a peer.
#pragma once

#include "refhv/core/core_impl.hpp"
#include "refhv/core/event_rules.hpp"
#include "refhv/core/peer.hpp"
#include "refhv/core/run.hpp"
#include "refhv/core/slices.hpp"

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
            slices::let_host_run();
        }
    }
}

} // namespace detail

template <class H>
typename BasicCore<H>::Vm* BasicCore<H>::peer_of(const abi::Run& what) {
    return what.peer.act == static_cast<u16>(abi::PeerAct::guest) ? find(what.peer.value) : nullptr;
}

template <class H>
Status BasicCore<H>::checked(const abi::Run& what, const Vm& vm) {
    if (what.cpu >= info_.cpus) {
        return refuse(abi::Outcome::unsupported, "run: there is no CPU of this number");
    }
    if ((what.flags & ~u32{abi::run_host_stamps | abi::run_log_exits}) != 0) {
        return refuse(abi::Outcome::bad_request, "run: unknown flags");
    }
    if ((what.event_error != 0 && !Event{what.event}.has_error()) ||
        (what.event != 0 && !detail::is_event({what.event}))) {
        return refuse(abi::Outcome::bad_request, "run: its event is none, as the policy's would be");
    }
    if (what.peer.act == static_cast<u16>(abi::PeerAct::none)) {
        return what.max_peer_stamps == 0 ? Status{}
                                         : refuse(abi::Outcome::bad_request, "run: stamps of no peer");
    }
    if (info_.cpus < 2) {
        return refuse(abi::Outcome::unsupported, "a peer needs a second CPU");
    }
    if (const char* const fault = fault_of(what.peer, what.cpu, info_.cpus, vm.memory); fault != nullptr) {
        return refuse(abi::Outcome::bad_request, fault);
    }
    if (const Status status = permitted(what.peer); !status.ok()) {
        return status;
    }
    if (resets(what.peer) && (vm.memory.mode != abi::Mode::nested || vendor_ != abi::Vendor::vmx)) {
        return refuse(abi::Outcome::unsupported, "peer: INITs and start-up IPIs go to nested guests of VMX");
    }
    if (what.peer.act == static_cast<u16>(abi::PeerAct::guest)) {
        const Vm* const peer = peer_of(what);
        if (peer == nullptr || peer == &vm || peer->memory.mode != abi::Mode::nested) {
            return refuse(abi::Outcome::bad_request, "peer: its guest is another VM, of mode nested");
        }
    }
    return {};
}

// VMs are made on CPU 0 and are there between runs. One that cannot arrive is where it was.
template <class H>
Status BasicCore<H>::move(Vm& vm, u32 from, u32 to) {
    return visit(vm, [&]<class V>(V& v) {
        Status status;
        if constexpr (IsBoundToCpu<V>) {
            if (from != to) {
                auto leave = [&] { v.leave_cpu(); };
                auto arrive = [&] { status = v.arrive(arena_, to); };
                auto come_back = [&] { (void)v.arrive(arena_, from); }; // it was there before
                detail::do_all({detail::task_on(from, leave)});
                detail::do_all({detail::task_on(to, arrive)});
                if (!status.ok()) {
                    detail::do_all({detail::task_on(from, come_back)});
                }
            }
        }
        return status;
    });
}

// On the peer's CPU: the other VM's guest, until an exit of it was answered. Host state that it changed is
// added to the answer.
template <class H>
bool BasicCore<H>::run_peer(const abi::Run& what, const IpiTarget& target, u32& host_changed) {
    Vm& vm = *peer_of(what);
    abi::Run step{};
    step.repeats = 1;
    step.deadline = what.deadline;
    abi::RunReply reply{};
    const Status status = visit(vm, [&](auto& v) {
        return run_guest<typename H::Snapshot>(v, vm.memory, vm.policy, step, has_tsc_aux_, nullptr, nullptr,
                                               reply, target);
    });
    host_changed |= reply.host_changed;
    return status.outcome == abi::Outcome::repeats_done;
}

// The guest on its CPU and the peer on its own, until both are done.
template <class H>
Status BasicCore<H>::run_all(Vm& vm, const abi::Run& what, abi::HostStamp* stamps, abi::Exit* exits,
                             abi::PeerStamp* peer_stamps, abi::RunReply& answer) {
    const bool alone = what.peer.act == static_cast<u16>(abi::PeerAct::none);
    Status status;
    u32 host_changed = 0;
    auto peer_guest = [&] { return run_peer(what, target_of(what.peer, what.cpu, vm.memory), host_changed); };
    const GuestAct act{[](void* self) { return (*static_cast<decltype(peer_guest)*>(self))(); }, &peer_guest};
    PeerLoop peer(what.peer, what.cpu, vm.memory, act, peer_stamps, what.max_peer_stamps);
    auto guest = [&] {
        platform::hold_interrupts(); // an NMI of the peer's that finds the run ended is no failure
        status = visit(vm, [&](auto& v) {
            return run_guest<typename H::Snapshot>(v, vm.memory, vm.policy, what, has_tsc_aux_, stamps, exits,
                                                   answer);
        });
        if (!alone) {
            peer.end();
        }
        platform::release_interrupts();
    };
    if (alone) {
        detail::do_all({detail::task_on(what.cpu, guest)});
    } else {
        detail::do_all({detail::task_on(what.cpu, guest), detail::task_on(what.peer.cpu, peer)});
        answer.peer_acts = peer.done();
        answer.host_changed |= host_changed;
    }
    return status;
}

template <class H>
Status BasicCore<H>::equip(Vm& vm, const abi::Run& what) {
    if (what.extras == 0 || what.extras >> static_cast<u8>(abi::Extra::count_) != 0) {
        return refuse(abi::Outcome::bad_request, "run: unknown extras, or a number without any");
    }
    return visit_capable(vm,
                         [&](HasExits auto& v) { return v.equip(arena_, what.extras, what.extra_count); });
}

template <class H>
Status BasicCore<H>::on(Row<Op::run>, Vm& vm, const abi::Run& what, ReplyWriter& reply) {
    if (const Status s = checked(what, vm); !s.ok()) {
        return s;
    }
    if (what.event != 0) {
        if (const Status s = able(vm, abi::Reason::none, abi::Action::deliver, {what.event}); !s.ok()) {
            return s;
        }
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
    Vm* const sender = peer_of(what);
    slices::let_host_run();
    Status status = move(vm, 0, what.cpu);
    if (!status.ok()) {
        return status;
    }
    if (sender != nullptr) {
        status = move(*sender, 0, what.peer.cpu);
    }
    if (status.ok()) {
        status = run_all(vm, what, stamps, exits, reinterpret_cast<abi::PeerStamp*>(peer_list), answer);
        if (status.text == nullptr) { // it ran, and has seen what others wrote; a peer may have written since
            vm.memory.changed = what.peer.act != static_cast<u16>(abi::PeerAct::none);
        }
        if (sender != nullptr) {
            (void)move(*sender, what.peer.cpu, 0);
        }
    }
    slices::window.begin(); // the run's own stretches are in its answer
    (void)move(vm, what.cpu, 0);
    const u64 before = slices::window.longest();
    answer.longest_stretch = before > answer.longest_stretch ? before : answer.longest_stretch;
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
