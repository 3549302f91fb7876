// SPDX-License-Identifier: MIT
// The VMX preemption timer.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::Intercept;
using abi::Reason;
using client::Guest;
using client::on;

namespace {

GUEST(guest_spin, "1: jmp 1b")

} // namespace

TEST_F(Exit, preemption_timer_exits_when_intercepted) {
    claim({.sdm = "SDM 3C 26.5.1, 27.7.4"}, [&] {
        Guest guest(host(), {.intercepts = on(Intercept::preemption_timer)});
        guest.state.gpr[abi::rbx] = 0x1234;
        guest.load(guest_spin);
        if ((guest.settle().unsupported & on(Intercept::preemption_timer)) != 0) {
            GTEST_SKIP() << "no VMX preemption timer";
        }
        const auto r = guest.run({.preemption_timer = 0});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::preemption_timer);
        EXPECT_EQ(r.reply.exit.raw_reason, 52u);
        EXPECT_EQ(r.reply.exit.qualification, 0u);
        EXPECT_EQ(r.reply.state.rip, client::layout::code);
        EXPECT_EQ(r.count(Reason::preemption_timer), 1u);
        expect_registers(guest.state, r.reply.state);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

TEST_F(Exit, preemption_timer_obeys_its_intercept) {
    claim({.sdm = "SDM 3C 26.5.1"}, [&] {
        Guest guest(host(), client::Plan{});
        guest.load({guest_spin.begin, guest_spin.begin}); // nothing but the jump to the stop stub
        const auto r = guest.run({.preemption_timer = 0});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.count(Reason::preemption_timer), 0u);
    });
}

TEST_F(Exit, preemption_timer_leaves_state_intact) {
    claim({.sdm = "SDM 3C 26.5.1"}, [&] {
        client::Plan plan;
        plan.intercepts = on(Intercept::preemption_timer);
        plan.policy.push_back({.reason = static_cast<u16>(Reason::preemption_timer),
                               .action = static_cast<u8>(abi::Action::resume),
                               .length = 0,
                               .event = 0});
        Guest guest(host(), plan);
        guest.load(guest_spin);
        constexpr u64 repeats = 10;
        if ((guest.settle().unsupported & on(Intercept::preemption_timer)) != 0) {
            GTEST_SKIP() << "no VMX preemption timer";
        }
        const auto r = guest.run({.repeats = repeats, .preemption_timer = 0});
        EXPECT_EQ(r.outcome, abi::Outcome::repeats_done);
        EXPECT_EQ(r.count(Reason::preemption_timer), repeats);
        EXPECT_EQ(r.reply.state.rip, client::layout::code);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

} // namespace refhv::front
