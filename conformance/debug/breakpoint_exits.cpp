// SPDX-License-Identifier: MIT
// Breakpoints that an entry loads, where something exits: the #DB itself, the instruction, the access.
#include "conformance/debug/breakpoints.hpp"

namespace refhv::front {

using abi::Reason;
using debug::Kind;
namespace layout = client::layout;

// Exits by #DB: a data breakpoint's behind its instruction, an instruction breakpoint's before it.
TEST_F(DebugBreakpoints, exit_with_their_causes_where_debug_exceptions_are_intercepted) {
    claim({"SDM 3C 28.2.1 table 28-1, 28.3.3", "APM 2 15.12.2"}, [&] {
        Code code;
        code.add({0x90});
        const u64 store = code.move(true, 4, breakpoint_target);
        const u64 after = code.here();
        code.add({0x90});
        DebugGuest guest(host(), intercepting_debug());
        guest.load(code.code());
        for (unsigned number = 0; number < 4; ++number) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(number);
            set_breakpoint(guest.state, false, number, breakpoint_target,
                           debug::dr7_with(number, Kind::write, 4));
            expect_debug_exit(guest.run({}), after, u64{1} << number);
            set_breakpoint(guest.state, false, number, store, debug::dr7_with(number, Kind::execute, 1));
            expect_debug_exit(guest.run({}), store, u64{1} << number);
        }
        combinations(8);
    });
}

TEST_F(DebugBreakpoints, leave_dr7_as_the_guest_had_it) {
    claim({"SDM 3C 28.3.1", "APM 2 15.6"}, [&] {
        Code code;
        code.move(true, 4, breakpoint_target);
        DebugGuest guest(host(), intercepting_debug());
        guest.load(code.code());
        u64 tried = 0;
        for (const u64 dr7 : {debug::dr7_with(0, Kind::write, 4), debug::dr7_with(3, Kind::access, 4, true),
                              debug::dr7_with(1, Kind::write, 4) | 0x300, debug::dr7_fixed}) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(dr7);
            for (u64& dr : guest.state.dr) {
                dr = breakpoint_target;
            }
            guest.state.dr7 = dr7;
            const auto r = guest.run({});
            EXPECT_EQ(r.reply.state.dr7, dr7);
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason),
                      dr7 == debug::dr7_fixed ? Reason::hlt : Reason::exception);
            ++tried;
        }
        combinations(tried);
    });
}

// Before the instruction's own intercept, and without a trace of it.
TEST_F(DebugBreakpoints, of_instructions_go_before_the_instructions_exit) {
    claim({"SDM 3C 26.1.1; SDM 3A table 6-2", "APM 2 15.7"}, [&] {
        Code code;
        const u64 cpuid = code.add({0x0f, 0xa2});
        client::Plan plan = intercepting_debug();
        plan.intercepts = client::on(abi::Intercept::cpuid);
        DebugGuest guest(host(), plan);
        guest.load(code.code());
        set_breakpoint(guest.state, false, 0, cpuid, debug::dr7_with(0, Kind::execute, 1));
        expect_debug_exit(guest.run({}), cpuid, 1);
        guest.state.rflags |= debug::rflags_rf; // the premise: past the breakpoint it does exit
        expect_exit(guest.run({}), Reason::cpuid, cpuid);
    });
}

// An access that the nested tables refuse has not happened; once it has, the breakpoint fires, once.
TEST_F(DebugBreakpoints, of_data_fire_once_behind_an_access_that_exited) {
    claim({"SDM 3C 28.3.4; SDM 3B 18.3.1.2", "APM 2 15.25.6; 13.1.3.2"}, [&] {
        Code code;
        code.move(true, 4, layout::arena + 8);
        const u64 after = code.here();
        client::Plan plan;
        plan.arena_pages = 1;
        plan.policy.push_back({.reason = static_cast<u16>(Reason::nested_violation),
                               .action = static_cast<u8>(abi::Action::map_and_retry),
                               .length = 0,
                               .event = 0});
        DebugGuest guest(host(), plan);
        guest.load(code.code());
        guest.protect(layout::arena, 1, 0);
        set_breakpoint(guest.state, false, 2, layout::arena + 8, debug::dr7_with(2, Kind::write, 4));
        const auto r = guest.run_and_read();
        EXPECT_EQ(r.count(Reason::nested_violation), 1u) << "the premise";
        expect_traps(r, {{after, 1u << 2}});
    });
}

} // namespace refhv::front
