// SPDX-License-Identifier: MIT
#include "refhv/self/run.hpp"

#include "refhv/self/deadline.hpp"
#include "refhv/self/exit.hpp"
#include "refhv/self/frame.h"
#include "refhv/self/fs_base.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <sys/auxv.h>
#include <ucontext.h>
#include <x86intrin.h>

namespace refhv::client::self {

struct Frame { // shared with self_enter.S
    u64 gpr[16];
    u64 rip, rflags;
    u64 host_rsp;
    u64 in_guest;
    u32 mxcsr;
    u16 fcw;
};
static_assert(offsetof(Frame, rip) == REFHV_SELF_RIP && offsetof(Frame, rflags) == REFHV_SELF_RFLAGS);
static_assert(offsetof(Frame, host_rsp) == REFHV_SELF_HOST_RSP);
static_assert(offsetof(Frame, in_guest) == REFHV_SELF_IN_GUEST);
static_assert(offsetof(Frame, mxcsr) == REFHV_SELF_MXCSR && offsetof(Frame, fcw) == REFHV_SELF_FCW);

} // namespace refhv::client::self

extern "C" {
[[gnu::visibility("hidden")]] refhv::client::self::Frame refhv_self_frame;
[[gnu::visibility("hidden")]] void refhv_self_enter();
[[gnu::visibility("hidden")]] extern const char refhv_self_jump[];
[[gnu::visibility("hidden")]] extern const char refhv_self_leave[];
}

namespace refhv::client::self {
namespace {

using abi::Action;
using abi::Outcome;
using abi::Reason;

Frame& frame() {
    return refhv_self_frame;
}

// The run under way; only its handler and run_guest touch it.
struct Current {
    Vm* vm;
    const abi::Run* run;
    RunResult* result;
    u64 host_fs_base;
    u64 host_selectors; // as in mcontext: CS, GS, FS, SS, 16 bits each
};
Current current{};

// abi::Gpr in the order of mcontext.
constexpr std::array<int, 16> greg_of{REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

const int timer_signal = SIGRTMIN;
constexpr std::array trap_signals{SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP};

// What a guest may bring along: CF, PF, AF, ZF, SF, DF, OF, AC, ID. The rest is as a process has it.
constexpr u64 guest_flags = 0x24'0cd5;
constexpr u64 host_flags = 0x202;

u16 selector(u64 packed, unsigned index) {
    return static_cast<u16>(packed >> 16 * index);
}

u64 read_selectors() {
    u16 cs = 0;
    u16 gs = 0;
    u16 fs = 0;
    u16 ss = 0;
    asm("mov %%cs, %0; mov %%gs, %1; mov %%fs, %2; mov %%ss, %3" : "=r"(cs), "=r"(gs), "=r"(fs), "=r"(ss));
    return u64{ss} << 48 | u64{fs} << 32 | u64{gs} << 16 | cs;
}

void save_state(const greg_t* gregs, u64 rip, u64 fs_base) {
    abi::GuestState& state = current.vm->state;
    for (usize i = 0; i < greg_of.size(); ++i) {
        state.gpr[i] = static_cast<u64>(gregs[greg_of[i]]);
    }
    state.rip = rip;
    state.rflags = static_cast<u64>(gregs[REG_EFL]);
    const u64 packed = static_cast<u64>(gregs[REG_CSGSFS]);
    state.segment[abi::cs].selector = selector(packed, 0);
    state.segment[abi::gs].selector = selector(packed, 1);
    state.segment[abi::fs].selector = selector(packed, 2);
    state.segment[abi::ss].selector = selector(packed, 3);
    asm("mov %%ds, %0; mov %%es, %1"
        : "=r"(state.segment[abi::ds].selector), "=r"(state.segment[abi::es].selector));
    state.segment[abi::fs].base = fs_base;
}

// Sends the process back to run_guest once the handler returns.
void leave(greg_t* gregs, u64 rip, Outcome outcome, u64 fs_base) {
    save_state(gregs, rip, fs_base);
    current.result->outcome = outcome;
    frame().in_guest = 0;
    gregs[REG_RIP] = reinterpret_cast<greg_t>(refhv_self_leave);
    gregs[REG_RSP] = static_cast<greg_t>(frame().host_rsp);
    gregs[REG_EFL] = static_cast<greg_t>(host_flags);
    gregs[REG_CSGSFS] = static_cast<greg_t>(current.host_selectors);
}

// Where the guest goes on after `exit`, by the policy; 0: nowhere.
u64 next_rip(const abi::Exit& exit, u64 rip) {
    constexpr u16 breakpoint = 3;
    const abi::PolicyEntry& entry = current.vm->policy[exit.reason];
    if (exit.reason == static_cast<u16>(Reason::exception) && exit.vector == breakpoint) {
        return 0;
    }
    switch (static_cast<Action>(entry.action)) {
    case Action::resume:
        return rip;
    case Action::advance: {
        const u32 length = exit.instruction_length != 0 ? exit.instruction_length : entry.length;
        return length != 0 ? rip + length : 0;
    }
    default:
        return 0;
    }
}

// Returns true if the guest goes on.
bool handle(int signal, greg_t* gregs, u64 first, u64 fs_base) {
    if (frame().in_guest == 0) {
        if (signal != timer_signal) { // a fault of our own: die of it, the client names the signal
            std::signal(signal, SIG_DFL);
            raise(signal);
        }
        return true; // the timer fires again
    }
    u64 rip = static_cast<u64>(gregs[REG_RIP]);
    rip = rip == reinterpret_cast<u64>(refhv_self_jump) ? frame().rip : rip;
    abi::RunReply& reply = current.result->reply;
    if (signal == timer_signal) {
        leave(gregs, rip, Outcome::deadline, fs_base);
        return false;
    }
    const GuestMemory& memory = current.vm->memory;
    const TrapExit trapped =
        describe({.signal = signal,
                  .vector = static_cast<u64>(gregs[REG_TRAPNO]),
                  .error = static_cast<u64>(gregs[REG_ERR]),
                  .address = static_cast<u64>(gregs[REG_CR2]),
                  .rip = rip,
                  .code = memory.from(rip, 15),
                  .before = memory.contains(rip - 2, 2) ? memory.at(rip - 2, 2) : memory.at(rip - 1, 1)});
    reply.exit = trapped.exit;
    if (trapped.exit.guest_linear != 0) {
        current.vm->state.cr2 = trapped.exit.guest_linear;
    }
    ++reply.counts[trapped.exit.reason];
    const u64 next = next_rip(trapped.exit, trapped.rip);
    if (next == 0) {
        leave(gregs, trapped.rip, Outcome::exited, fs_base);
        return false;
    }
    ++reply.handled;
    std::vector<abi::HostStamp>& stamps = current.result->stamps;
    if (stamps.size() < stamps.capacity()) {
        stamps.push_back({.first = first, .last = 0});
    }
    if (reply.handled == current.run->repeats) {
        leave(gregs, next, Outcome::repeats_done, fs_base);
        return false;
    }
    ++reply.entries;
    gregs[REG_RIP] = static_cast<greg_t>(next);
    return true;
}

// Until FS is ours again, nothing may touch thread-local storage; this file is compiled without a stack
// protector, whose canary is there.
void on_signal(int signal, siginfo_t* /*info*/, void* context) {
    const u64 first = __rdtsc();
    // The kernel hands us the guest's AC, with which a misaligned access of ours would be a fault.
    asm volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x40000, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                     : "cc", "memory");
    const u64 fs_base = read_fs_base();
    if (fs_base != current.host_fs_base) {
        write_fs_base(current.host_fs_base);
    }
    greg_t* gregs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const bool goes_on = handle(signal, gregs, first, fs_base);
    std::vector<abi::HostStamp>* stamps = current.result != nullptr ? &current.result->stamps : nullptr;
    if (goes_on && fs_base != current.host_fs_base) {
        write_fs_base(fs_base);
    }
    if (stamps != nullptr && !stamps->empty() && stamps->back().last == 0) {
        stamps->back().last = __rdtsc();
    }
}

// Once per process: handlers on a stack of their own, and the timer. Returns the timer.
timer_t install() {
    const usize size = getauxval(AT_MINSIGSTKSZ) + usize{64} * 1024;
    stack_t stack{};
    stack.ss_sp = std::malloc(size);
    stack.ss_size = size;
    stack.ss_flags =
        static_cast<int>(1u << 31); // SS_AUTODISARM: whatever RSP the guest has, it is not on this stack
    sigaltstack(&stack, nullptr);
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigfillset(&action.sa_mask);
    for (int signal : trap_signals) {
        sigaction(signal, &action, nullptr);
    }
    sigaction(timer_signal, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = timer_signal;
    timer_t timer{};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
        std::abort(); // a guest without a deadline could hold this process for ever
    }
    return timer;
}

} // namespace

RunResult run_guest(Vm& vm, const abi::Run& run, u64 tsc_hz) {
    static const timer_t timer = install();
    RunResult result;
    result.stamps.reserve((run.flags & abi::run_host_stamps) != 0 ? run.max_stamps : 0);
    result.reply.entries = 1;
    std::copy(std::begin(vm.state.gpr), std::end(vm.state.gpr), frame().gpr);
    frame().rip = vm.state.rip;
    frame().rflags = (vm.state.rflags & guest_flags) | host_flags;
    current = {.vm = &vm,
               .run = &run,
               .result = &result,
               .host_fs_base = read_fs_base(),
               .host_selectors = read_selectors()};
    const u64 switches = involuntary_switches();
    set_timer(timer, deadline_ns(run, tsc_hz));
    result.reply.tsc_begin = __rdtsc();
    refhv_self_enter();
    result.reply.tsc_end = __rdtsc();
    set_timer(timer, 0);
    result.reply.interrupts = involuntary_switches() - switches;
    current.result = nullptr;
    result.reply.state = vm.state;
    result.reply.stamp_count = static_cast<u32>(result.stamps.size());
    return result;
}

} // namespace refhv::client::self
