// SPDX-License-Identifier: MIT
// HLT and MWAIT: instructions that would wait, so that "does not exit" needs something that wakes the guest.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::Intercept;
using abi::Reason;
using client::Guest;
using client::on;

namespace {

constexpr u32 monitor_bit = 1u << 3; // CPUID.01H:ECX

std::string no_mwait(const client::HelloInfo& hello) {
    return (cpuid(hello, 1, 0, 2) & monitor_bit) != 0 ? "" : "no MONITOR/MWAIT: CPUID.01H:ECX[3] is 0";
}

const ExitCase hlt_case{.code = {},
                        .reason = Reason::hlt,
                        .intercepts = on(Intercept::hlt),
                        .vmx = {.raw = 12, .section = "SDM 3C 26.1.3", .qualification = Masked{0}},
                        .svm = {.raw = 0x78, .section = "APM 2 15.9"},
                        .stop = client::Stop::port};

// Not armed by a MONITOR: qualification 0 (SDM 3C 28.2.1).
const ExitCase mwait_case{.code = {},
                          .reason = Reason::mwait,
                          .intercepts = on(Intercept::mwait),
                          .vmx = {.raw = 36, .section = "SDM 3C 26.1.3", .qualification = Masked{0}},
                          .svm = {.raw = 0x8b, .section = "APM 2 15.9"},
                          .stop = client::Stop::port,
                          .prepare =
                              [](abi::GuestState& s) {
                                  s.gpr[abi::rax] = 0;
                                  s.gpr[abi::rcx] = 0;
                              },
                          .missing = no_mwait};

GUEST(guest_hlt, "hlt")
GUEST(guest_mwait, "mwait")
GUEST(guest_sti_hlt, "sti\n hlt")
GUEST(guest_sti_mwait, "sti\n mwait")

ExitCase with_code(ExitCase what, client::GuestCode code) {
    what.code = code;
    return what;
}

// VMX: the preemption timer runs on in the HLT and MWAIT states and ends them (SDM 3C 26.5.1).
void wakes_by_timer(client::GuestHost& host, const ExitCase& what, bool may_fall_through) {
    client::Plan plan = plan_of(what, false, abi::Action::stop);
    plan.intercepts |= on(Intercept::preemption_timer);
    Guest guest(host, plan);
    fill_registers(guest.state, what);
    guest.load(what.code);
    if ((guest.settle().unsupported & on(Intercept::preemption_timer)) != 0) {
        GTEST_SKIP() << "no VMX preemption timer to end the wait";
    }
    const auto r = guest.run({.preemption_timer = 1'000});
    ASSERT_EQ(r.outcome, abi::Outcome::exited);
    EXPECT_EQ(r.count(what.reason), 0u);
    const auto reason = static_cast<Reason>(r.reply.exit.reason);
    if (may_fall_through && reason == Reason::io_out) {
        EXPECT_EQ(r.reply.state.rip, client::layout::stop);
    } else {
        EXPECT_EQ(reason, Reason::preemption_timer);
        EXPECT_EQ(r.reply.state.rip, client::layout::code + what.code.size());
    }
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

// SVM: nothing of the guest's own ends the wait, so it lasts until the host's timer does, which is armed for
// the deadline. On a host that others work on their interrupts end it before. Interrupts are on in the guest
// because Bochs 2.7 asks its IF, not the host's, whether they end a HLT.
void waits_for_the_host(client::GuestHost& host, const ExitCase& what, client::GuestCode code) {
    Guest guest(host, plan_of(what, false, abi::Action::stop));
    fill_registers(guest.state, what);
    guest.load(code);
    const u64 deadline = 2'000'000 * (host.target.info().counts_instructions ? 1 : 100); // ticks; cycles
    // Alone, until the deadline. Else far longer than a guest that does not wait takes, though an interrupt
    // may be just about to come, once or twice.
    const bool alone = host.target.hello().fixed.platform == static_cast<u16>(abi::Platform::image);
    const u64 least = alone ? deadline / 2 : deadline / 20'000;
    auto r = guest.run({.deadline = deadline});
    const auto waited = [&] { return r.reply.tsc_end - r.reply.tsc_begin; };
    for (unsigned again = 0; again < 4 && !alone && waited() < least; ++again) {
        r = guest.run({.deadline = deadline});
    }
    EXPECT_EQ(r.count(what.reason), 0u);
    EXPECT_GE(r.count(Reason::external_interrupt), 1u) << "what should have ended the wait";
    EXPECT_GE(waited(), least) << "it went on without waiting";
    if (r.outcome ==
        abi::Outcome::exited) { // the timer was early, and the guest went on behind the instruction
        EXPECT_EQ(r.reply.state.rip, client::layout::stop);
    } else {
        EXPECT_EQ(r.outcome, abi::Outcome::deadline);
        EXPECT_EQ(r.reply.state.rip, client::layout::code + code.size());
    }
    EXPECT_EQ(r.exceptions.count, 0u);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

// SVM: a virtual interrupt that is pending already, held back by the shadow of STI until the instruction
// behind it (APM 2 15.21.4), whose handler then stops the guest.
void wakes_by_interrupt(client::GuestHost& host, const ExitCase& what, client::GuestCode code) {
    constexpr u32 vmcb_virtual_interrupt = 0x60;
    constexpr u64 vector = 0x30;
    constexpr u64 pending = u64{1} << 8;          // V_IRQ
    constexpr u64 ignore_priority = u64{1} << 20; // V_IGN_TPR
    constexpr u64 masking = u64{1} << 24;         // V_INTR_MASKING
    Guest guest(host, plan_of(what, false, abi::Action::stop));
    fill_registers(guest.state, what);
    guest.load(code);
    constexpr u64 entry = client::layout::vectors + 16 * 31; // a stub that no exception of ours uses
    guest.gate(vector, entry);
    guest.field(vmcb_virtual_interrupt, 8, pending | ignore_priority | masking | vector << 32);
    const auto r = guest.run({});
    ASSERT_EQ(r.outcome, abi::Outcome::exited);
    EXPECT_EQ(r.count(what.reason), 0u);
    EXPECT_EQ(r.exceptions.count, 1u) << "the virtual interrupt";
    EXPECT_EQ(r.exceptions.vector, 31u);
    EXPECT_EQ(r.exceptions.rip, client::layout::code + code.size()) << "not behind the instruction";
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}
} // namespace

TEST_F(Exit, hlt_exits_when_intercepted) {
    exits_when_intercepted(with_code(hlt_case, guest_hlt));
}
TEST_F(Exit, hlt_leaves_state_intact) {
    leaves_state_intact(with_code(hlt_case, guest_hlt));
}
TEST_F(Exit, mwait_exits_when_intercepted) {
    exits_when_intercepted(with_code(mwait_case, guest_mwait));
}
TEST_F(Exit, mwait_leaves_state_intact) {
    leaves_state_intact(with_code(mwait_case, guest_mwait));
}

TEST_F(Exit, hlt_obeys_its_intercept) {
    claim({"SDM 3C 26.1.3, 26.5.1", "APM 2 15.9"}, [&] {
        if (on_vmx()) {
            wakes_by_timer(host(), with_code(hlt_case, guest_hlt), false);
        } else {
            waits_for_the_host(host(), with_code(hlt_case, guest_hlt), guest_sti_hlt);
        }
    });
}

TEST_F(Exit, svm_virtual_interrupt_ends_hlt) {
    claim({.apm = "APM 2 15.21.4"},
          [&] { wakes_by_interrupt(host(), with_code(hlt_case, guest_hlt), guest_sti_hlt); });
}

TEST_F(Exit, mwait_obeys_its_intercept) {
    claim({"SDM 3C 26.3, 26.5.1", "APM 2 15.9, 15.21.4"}, [&] {
        if (const std::string why = no_mwait(hello()); !why.empty()) {
            GTEST_SKIP() << why;
        }
        if (on_vmx()) {
            wakes_by_timer(host(), with_code(mwait_case, guest_mwait), true);
        } else {
            wakes_by_interrupt(host(), with_code(mwait_case, guest_mwait), guest_sti_mwait);
        }
    });
}

} // namespace refhv::front
