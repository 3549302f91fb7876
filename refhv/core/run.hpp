// SPDX-License-Identifier: MIT
// The run loop: enter, look at the exit, do what the policy says. One for every backend.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/core/host_window.hpp"
#include "refhv/core/pending_events.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv {

namespace detail {

// At most so many exits are answered by the exit path between two windows on the host.
inline constexpr u64 fast_chunk = 1u << 14;
// The timer goes off no later than this, so that a guest that never exits hears of a stop.
inline constexpr u64 longest_slice = u64{1} << 30; // TSC ticks

enum class Verdict : u8 {
    go_on,
    stop,
};

inline void arm(u64 ticks) {
    platform::arm_deadline(ticks < longest_slice ? ticks : longest_slice);
}

// Waits, as HLT does, until something can wake the guest.
inline void sleep(PendingEvents& pending, u64 deadline, HostWindow& window) {
    while (!pending.any() && window.last() < deadline && !window.hears_stop()) {
        window.wait(); // at the latest for the one that arm_deadline asked for
        if (!pending.collect() && window.last() < deadline) { // a timer that went off early
            arm(deadline - window.last());
        }
    }
}

template <Backend V>
[[nodiscard]] bool redeliver(V& vcpu, const abi::Exit& exit) {
    if constexpr (TakesEvents<V>) {
        return vcpu.redeliver(exit);
    } else {
        return true; // no exit cuts a delivery short
    }
}

// Answers that only a virtualized guest's exits can have.
template <Virtualizes V>
[[nodiscard]] bool answer_virtualized(V& vcpu, const GuestMemory& memory, const Reaction& reaction,
                                      const abi::Exit& exit, u64 deadline, PendingEvents& pending,
                                      HostWindow& window) {
    switch (reaction.action) {
    case abi::Action::emulate:
        if (exit.reason == static_cast<u16>(abi::Reason::hlt)) {
            sleep(pending, deadline, window);
            return vcpu.advance(exit, reaction);
        }
        return vcpu.emulate(exit, reaction);
    case abi::Action::inject:
        return vcpu.inject(exit);
    case abi::Action::map_and_retry:
        return vcpu.map(memory, exit) && vcpu.redeliver(exit);
    case abi::Action::deliver: {
        const Event event{reaction.event};
        const bool waits = event.delivery() == abi::Delivery::when_open;
        return vcpu.advance(exit, reaction) && (waits ? pending.add(vcpu, event) : vcpu.deliver(event));
    }
    default:
        return false;
    }
}

template <Backend V>
Verdict answer(V& vcpu, const GuestMemory& memory, const Policy& policy, const abi::Exit& exit, u64 deadline,
               PendingEvents& pending, HostWindow& window, abi::RunReply& reply) {
    const auto reason = static_cast<abi::Reason>(exit.reason);
    const auto go_on_if = [](bool done) { return done ? Verdict::go_on : Verdict::stop; };
    const Reaction& reaction = policy.of(reason);
    // The host's own business, whatever the policy; what the policy may want is a part in it.
    if (reason == abi::Reason::external_interrupt) {
        (void)window.take();
        const bool guests = reaction.action == abi::Action::inject && pending.collect();
        ++(guests ? reply.handled : reply.interrupts);
        return go_on_if(redeliver(vcpu, exit));
    }
    if (reason == abi::Reason::nmi) { // the backend has handed it on
        if (reaction.action == abi::Action::inject) {
            pending.add_nmi();
            ++reply.handled;
        }
        return go_on_if(redeliver(vcpu, exit));
    }
    if constexpr (TakesEvents<V>) {
        if (pending.awaits_window(reason)) { // for that it was asked for, whatever the policy
            reply.handled += pending.deliver_at_window(vcpu, reason) ? 1 : 0;
            return Verdict::go_on; // a window opens between two instructions: no delivery was cut short
        }
    }
    bool done = false;
    if (reaction.action == abi::Action::advance) {
        done = vcpu.advance(exit, reaction);
    } else if (reaction.action == abi::Action::resume) {
        done = redeliver(vcpu, exit);
    } else if constexpr (Virtualizes<V>) {
        done = answer_virtualized(vcpu, memory, reaction, exit, deadline, pending, window);
    }
    reply.handled += done ? 1 : 0;
    return go_on_if(done);
}

// Modes shadow and vtlb: has the exit been answered by the shadow MMU?
template <Backend V>
[[nodiscard]] bool is_translations(V& vcpu, abi::Exit& exit) {
    if constexpr (HasExits<V>) {
        return vcpu.translate(exit);
    } else {
        return false;
    }
}

template <Backend V>
void describe(V& vcpu, abi::Exit& exit) {
    if constexpr (HasExits<V>) {
        vcpu.describe(exit);
    }
}

// Between an exit and the next entry. true: the host took something, of which no exit told.
template <Backend V>
[[nodiscard]] bool open_window(V& vcpu, const Policy& policy, PendingEvents& pending, HostWindow& window,
                               abi::RunReply& reply) {
    const bool gives = policy.of(abi::Reason::external_interrupt).action == abi::Action::inject;
    if constexpr (!TakesEvents<V>) {
        if (gives) { // what is pending reaches the guest by itself, with the host's gates in its IDT
            window.close();
            return false;
        }
    }
    if (!window.open()) {
        return false;
    }
    reply.interrupts += gives && pending.collect() ? 0 : 1;
    if constexpr (TakesEvents<V>) {
        pending.offer(vcpu);
    }
    return true;
}

template <Backend V>
abi::Outcome loop(V& vcpu, const GuestMemory& memory, const Policy& policy, const abi::Run& run, u64 deadline,
                  PendingEvents& pending, HostWindow& window, abi::Exit* log, abi::RunReply& reply) {
    // Runs with and without a limit take the same way, so that a run with host stamps, which has one, differs
    // by these alone.
    u64 limit = run.repeats != 0 ? run.repeats : ~u64{0};
    // Exits that are not the policy's take a stamp all the same.
    u64 room = (run.flags & abi::run_host_stamps) != 0 ? run.max_stamps : ~u64{0};
    const auto take_stamp = [&] {
        --room;
        limit = limit < room ? limit : room;
    };
    for (;;) {
        const u64 left = limit - reply.handled;
        // The last exit before the limit comes back here, so that a run never handles more than it was asked
        // to.
        u64 fast = 0;
        const Entered entered = vcpu.enter((left < fast_chunk ? left : fast_chunk) - 1, reply.counts, fast,
                                           reply.exit, reply.refusal);
        window.left_guest(fast != 0);
        reply.handled += fast;
        reply.entries += fast;
        if (entered == Entered::refused) {
            return abi::Outcome::entry_refused;
        }
        ++reply.entries;
        ++reply.counts[reply.exit.reason];
        const u64 handled = reply.handled;
        if (!is_translations(vcpu,
                             reply.exit)) { // else not the policy's; the deadline below holds for it too
            if (log != nullptr) {
                describe(vcpu, reply.exit);
            }
            const Verdict verdict =
                answer(vcpu, memory, policy, reply.exit, deadline, pending, window, reply);
            if (log != nullptr && (verdict == Verdict::stop || reply.handled != handled)) {
                log[reply.exit_count++] = reply.exit;
            }
            if (verdict == Verdict::stop) {
                return abi::Outcome::exited;
            }
        }
        if (reply.handled == handled) {
            take_stamp();
        }
        if constexpr (TakesEvents<V>) {
            pending.offer(vcpu);
        }
        if (reply.handled >= limit) {
            return abi::Outcome::repeats_done;
        }
        // Every exit opens the window, whatever its reason: one that outranks interrupts may come at every
        // entry.
        const bool taken = open_window(vcpu, policy, pending, window, reply);
        if (window.last() >= deadline) {
            return abi::Outcome::deadline;
        }
        if (window.hears_stop()) {
            return abi::Outcome::stopped;
        }
        const bool interrupted = reply.exit.reason == static_cast<u16>(abi::Reason::external_interrupt);
        const bool slept = reply.exit.reason == static_cast<u16>(abi::Reason::hlt);
        if (taken || interrupted || slept) { // a timer that went off early, or another's interrupt
            arm(deadline - window.last());
        }
    }
}

// Run::event, before the first entry. false: it cannot come now.
template <Backend V>
[[nodiscard]] bool bring(V& vcpu, Event event, u32 error, PendingEvents& pending) {
    bool coming = false;
    if constexpr (TakesEvents<V>) {
        const bool waits = event.delivery() == abi::Delivery::when_open;
        coming = waits ? pending.add(vcpu, event) : vcpu.deliver(event, error);
        pending.offer(vcpu);
    }
    return coming;
}

// Who has the CPU during a run: the guest, and in windows the host, if it needs its registers there. What of
// the host differs then was changed by the run; what differs after a window is the host's own doing.
template <class Snapshot, Backend V>
class Tenancy {
  public:
    Tenancy(V& vcpu, bool has_tsc_aux)
        : vcpu_(vcpu), has_tsc_aux_(has_tsc_aux), before_(Snapshot::take(has_tsc_aux)) {}

    [[nodiscard]] HostWindow::Lender lender() {
        if constexpr (LendsCpu<V>) {
            if (platform::window_interval() != 0) {
                return {this, [](void* self) { static_cast<Tenancy*>(self)->give(); },
                        [](void* self) { static_cast<Tenancy*>(self)->take(); }};
            }
        }
        return {};
    }

    // abi::HostState bits of what the run has changed, up to now, when the host has its registers.
    [[nodiscard]] u32 changed() {
        changed_ |= Snapshot::take(has_tsc_aux_).differences(before_);
        return changed_;
    }

  private:
    void give() {
        vcpu_.give_registers();
        (void)changed();
    }
    void take() {
        before_ = Snapshot::take(has_tsc_aux_);
        vcpu_.take_registers();
    }

    V& vcpu_;
    bool has_tsc_aux_;
    Snapshot before_;
    u32 changed_ = 0;
};

} // namespace detail

// Runs the guest and fills the reply. `stamps` is room for run.max_stamps records, `exits` for run.max_exits,
// only one of them in use; the 16 bytes in front of `stamps` are scratch. What is not `exited`,
// `entry_refused`, `repeats_done`, `deadline` or `stopped` never ran.
template <class Snapshot, Backend V>
Status run_guest(V& vcpu, const GuestMemory& memory, const Policy& policy, const abi::Run& run,
                 bool has_tsc_aux, abi::HostStamp* stamps, abi::Exit* exits, abi::RunReply& reply,
                 IpiTarget ipis = {}) {
    const bool stamped = (run.flags & abi::run_host_stamps) != 0;
    if (stamped && !HasExits<V>) {
        return refuse(abi::Outcome::unsupported, "no host stamps in mode native: nothing exits");
    }
    if (stamped && (run.repeats == 0 || run.repeats > run.max_stamps)) {
        return refuse(abi::Outcome::bad_request,
                      "host stamps need a limit of repeats with room for as many stamps");
    }
    const bool logged = (run.flags & abi::run_log_exits) != 0;
    if (logged && (stamped || run.repeats == 0 || run.repeats > run.max_exits)) {
        return refuse(abi::Outcome::bad_request,
                      "a log of exits needs a limit of repeats with room for as many "
                      "exits, and no host stamps");
    }
    constexpr u64 longest = u64{1} << 34;
    const u64 ticks = run.deadline == 0 || run.deadline > longest ? longest : run.deadline;
    HostWindow window;
    platform::hold_interrupts();
    window.begin();
    (void)window.open(); // what came before is nobody's
    while (platform::take_guest_vector() != 0) {
    }
    const u64 nmis = platform::nmi_count();
    detail::Tenancy<Snapshot, V> tenancy(vcpu, has_tsc_aux);
    Status status = vcpu.begin(memory, {policy, run.preemption_timer, stamped ? stamps : nullptr, run.extras,
                                        run.extra_count, ipis});
    if (status.ok()) {
        PendingEvents pending;
        const bool comes = run.event != 0 && detail::bring(vcpu, {run.event}, run.event_error, pending);
        window.lend_by(tenancy.lender());
        (void)window.open();
        // Behind the last window before the guest: what goes off from now on ends it.
        detail::arm(ticks);
        reply.tsc_begin = x86::rdtsc_fenced();
        status.outcome = detail::loop(vcpu, memory, policy, run, reply.tsc_begin + ticks, pending, window,
                                      logged ? exits : nullptr, reply);
        reply.tsc_end = x86::rdtsc_fenced();
        reply.events = comes && !pending.waits() ? 1 : 0;
        if constexpr (TakesEvents<V>) {
            pending.end(vcpu);
        }
        detail::describe(vcpu, reply.exit);
        if constexpr (HasExits<V>) {
            reply.stamp_count = stamped ? static_cast<u32>(vcpu.stamps_end() - stamps) : 0;
        }
        window.lend_by({});
        vcpu.end();
        vcpu.store(memory, reply.state);
    }
    reply.nmis = platform::nmi_count() - nmis;
    reply.host_changed = tenancy.changed();
    (void)window.open();
    reply.longest_stretch = window.longest();
    platform::release_interrupts();
    platform::disarm_deadline();
    return status;
}

} // namespace refhv
