// SPDX-License-Identifier: MIT
#include "refhv/self/kvm/run.hpp"

#include "refhv/self/deadline.hpp"
#include "refhv/self/kvm/vcpu.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
#include <x86intrin.h>

namespace refhv::client::self::kvm {
namespace {

using abi::Action;
using abi::Outcome;
using abi::Reason;

// The handler makes KVM_RUN return, now or when it is next called.
kvm_run* volatile under_way = nullptr;

void on_time(int /*signal*/) {
    if (kvm_run* const shared = under_way; shared != nullptr) {
        shared->immediate_exit = 1;
    }
}

// One timer of this thread's.
timer_t install() {
    const int signal = SIGRTMIN + 1;
    struct sigaction action {};
    action.sa_handler = on_time;
    sigaction(signal, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    event._sigev_un._tid = gettid();
    timer_t timer{};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
        std::abort(); // a guest without a deadline could hold this process for ever
    }
    return timer;
}

// As VMX tells of it (SDM 3C table 28-5): size - 1, in, port.
u64 qualification(const kvm_run& shared) {
    const auto& io = shared.io;
    return (io.size - 1u) | (io.direction == KVM_EXIT_IO_IN ? 8u : 0u) | u64{io.port} << 16;
}

// What KVM handed to us; Reason::none: nothing that the contract knows.
abi::Exit describe(kvm_run& shared) {
    abi::Exit exit{};
    exit.raw_reason = shared.exit_reason;
    const auto is = [&](Reason reason) { exit.reason = static_cast<u16>(reason); };
    switch (shared.exit_reason) {
    case KVM_EXIT_HLT:
        is(Reason::hlt);
        break;
    case KVM_EXIT_SHUTDOWN:
        is(Reason::triple_fault);
        break;
    case KVM_EXIT_IO: {
        const bool in = shared.io.direction == KVM_EXIT_IO_IN;
        is(in ? Reason::io_in : Reason::io_out);
        exit.qualification = qualification(shared);
        if (in) {
            std::memset(reinterpret_cast<u8*>(&shared) + shared.io.data_offset, 0xff,
                        usize{shared.io.size} * shared.io.count);
        }
        break;
    }
    case KVM_EXIT_MMIO:
        is(Reason::nested_violation);
        exit.guest_physical = shared.mmio.phys_addr;
        exit.qualification = shared.mmio.is_write != 0 ? 2 : 1;
        if (shared.mmio.is_write == 0) {
            std::memset(shared.mmio.data, 0xff, sizeof shared.mmio.data);
        }
        break;
    default:
        break;
    }
    return exit;
}

// Whether the guest goes on behind this exit.
bool is_answered(const Vm& vm, const abi::Exit& exit) {
    const auto action = static_cast<Action>(vm.policy[exit.reason].action);
    return exit.reason != static_cast<u16>(Reason::none) &&
           exit.reason != static_cast<u16>(Reason::triple_fault) &&
           (action == Action::advance || action == Action::resume);
}

Outcome loop(Vm& vm, const abi::Run& run, RunResult& result) {
    Vcpu& vcpu = *vm.vcpu;
    kvm_run& shared = vcpu.shared();
    abi::RunReply& reply = result.reply;
    for (;;) {
        if (!result.stamps.empty() && result.stamps.back().last == 0) {
            result.stamps.back().last = __rdtsc();
        }
        const int error = vcpu.run();
        const u64 first = __rdtsc();
        if (error == EINTR) {
            if (shared.immediate_exit != 0) {
                return Outcome::deadline;
            }
            continue; // a signal of somebody else's
        }
        if (error == 0 && shared.exit_reason == KVM_EXIT_SET_TPR) {
            continue; // the guest lowered CR8: an APIC in user space would look, and there is none
        }
        reply.exit = describe(shared);
        if (error != 0 || reply.exit.reason == static_cast<u16>(Reason::none)) {
            reply.refusal.entry_failure = 1;
            reply.refusal.qualification = error != 0 ? static_cast<u64>(error)
                                          : shared.exit_reason == KVM_EXIT_FAIL_ENTRY
                                              ? shared.fail_entry.hardware_entry_failure_reason
                                              : shared.internal.suberror;
            return Outcome::entry_refused;
        }
        ++reply.counts[reply.exit.reason];
        if (!is_answered(vm, reply.exit)) {
            return Outcome::exited;
        }
        ++reply.handled;
        if (result.stamps.size() < result.stamps.capacity()) {
            result.stamps.push_back({.first = first, .last = 0});
        }
        if (reply.handled == run.repeats) {
            if (!result.stamps.empty() && result.stamps.back().last == 0) {
                result.stamps.back().last = __rdtsc();
            }
            return Outcome::repeats_done;
        }
    }
}

} // namespace

RunResult run_guest(Vm& vm, const abi::Run& run, u64 tsc_hz) {
    static const timer_t timer = install();
    RunResult result;
    result.stamps.reserve((run.flags & abi::run_host_stamps) != 0 ? run.max_stamps : 0);
    Vcpu& vcpu = *vm.vcpu;
    vcpu.set_state(vm.state);
    const u64 switches = involuntary_switches();
    const std::optional<u64> exits = vcpu.exits();
    vcpu.shared().immediate_exit = 0;
    under_way = &vcpu.shared();
    set_timer(timer, deadline_ns(run, tsc_hz));
    result.reply.tsc_begin = __rdtsc();
    result.outcome = loop(vm, run, result);
    result.reply.tsc_end = __rdtsc();
    set_timer(timer, 0);
    under_way = nullptr;
    result.reply.entries = vcpu.exits().value_or(0) - exits.value_or(0);
    result.reply.interrupts = involuntary_switches() - switches;
    vcpu.finish_access();
    vm.state = vcpu.state();
    result.reply.state = vm.state;
    result.reply.stamp_count = static_cast<u32>(result.stamps.size());
    return result;
}

} // namespace refhv::client::self::kvm
