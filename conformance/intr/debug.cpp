// SPDX-License-Identifier: MIT
// VMX: debug traps that are pending at an entry, what holds them back and what loses them; and those that a
// MOV to SS leaves pending at an exit.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_traced_nops, "nop\n nop\n nop")
// A data breakpoint on what is loaded into SS: blocked until CPUID, which exits before it.
GUEST(guest_watched_mov_ss,
      "mov %ss, %eax\n mov %eax, " REFHV_ASM(
          REFHV_SCRATCH) "\n"
                         "mov $" REFHV_ASM(
                             REFHV_SCRATCH) ", %eax\n mov %rax, %dr0\n"
                                            "mov $0xf0403, %eax\n mov %rax, %dr7\n" // L0, G0, 4 bytes, data
                                                                                    // reads and writes
                                            "mov " REFHV_ASM(REFHV_SCRATCH) ", %ss\n cpuid")

constexpr u32 debug_vector = 1, invalid_guest_state = 33, vmx_misc = 0x485;
constexpr u64 rflags_tf = 1u << 8, hlt_state = 1;
// Of the pending debug exceptions (SDM 3C table 25-4).
constexpr u64 breakpoint_0 = 1u << 0, enabled_breakpoint = 1u << 12, single_step = 1u << 14;
constexpr u64 a_breakpoint = breakpoint_0 | enabled_breakpoint;

} // namespace

class IntrDebug : public Intr {
  protected:
    static client::Plan plan(bool intercepted) {
        client::Plan p;
        p.exceptions = intercepted ? 1u << debug_vector : 0;
        return p;
    }
    struct State {
        const char* what;
        u64 flags, blocking, activity;
    };
    static client::RunResult enter(Guest& guest, const State& s, u64 pending) {
        guest.state.rflags = s.flags;
        guest.load(guest_traced_nops);
        guest.field(vmcs::interruptibility, 4, s.blocking);
        guest.field(vmcs::activity, 4, s.activity);
        guest.field(vmcs::pending_debug, 8, pending);
        constexpr u32 patience = 100'000; // of the preemption timer, where it is on
        return guest.run({.preemption_timer = patience});
    }
    static void expect_refused(const std::vector<unsigned>& bits) {
        for (const unsigned bit : bits) {
            SCOPED_TRACE(bit);
            Guest guest(host(), plan(true));
            const auto r = enter(guest, {"", 2, 0, 0}, u64{1} << bit);
            EXPECT_EQ(r.outcome, abi::Outcome::entry_refused);
            EXPECT_EQ(r.reply.refusal.entry_failure, invalid_guest_state);
        }
        combinations(bits.size());
    }
    static void expect_debug_exit(const client::RunResult& r, u64 rip, u64 qualification) {
        expect_exit(r, Reason::exception, rip);
        EXPECT_EQ(r.reply.exit.vector, debug_vector);
        EXPECT_EQ(r.reply.exit.qualification, qualification);
    }
};

TEST_F(IntrDebug, vmx_pending_debug_trap_is_blocked_by_mov_ss_alone) {
    claim({.sdm = "SDM 3C 27.7.3"}, [&] {
        const std::vector<State> states{{"IF = 0", 2, 0, 0},
                                        {"IF = 1", 2 | rflags_if, 0, 0},
                                        {"blocking by STI", 2 | rflags_if, vmcs::blocking_by_sti, 0},
                                        {"blocking by NMI", 2, vmcs::blocking_by_nmi, 0}};
        for (const State& s : states) {
            SCOPED_TRACE(s.what);
            Guest guest(host(), plan(true));
            expect_debug_exit(enter(guest, s, a_breakpoint), layout::code, breakpoint_0);
        }
        combinations(states.size());
    });
}

// Behind the blocked instruction it comes, or it is lost.
TEST_F(IntrDebug, vmx_pending_debug_trap_does_not_come_in_the_shadow_of_mov_ss) {
    claim({.sdm = "SDM 3C 27.7.3; SDM 3A 6.8.3"}, [&] {
        for (const u64 flags : {u64{2}, 2 | rflags_if}) {
            Guest guest(host(), plan(true));
            const auto r = enter(guest, {"", flags, vmcs::blocking_by_mov_ss, 0}, a_breakpoint);
            if (static_cast<Reason>(r.reply.exit.reason) == Reason::exception) {
                expect_debug_exit(r, layout::code + 1, breakpoint_0);
            } else {
                expect_stopped(r);
            }
        }
        combinations(2);
    });
}

TEST_F(IntrDebug, vmx_pending_debug_trap_sets_dr6_where_the_guest_takes_it) {
    claim({.sdm = "SDM 3C 27.7.3; SDM 3B 18.2.3"}, [&] {
        for (const u64 pending : {a_breakpoint, single_step, a_breakpoint | single_step}) {
            SCOPED_TRACE(pending);
            Guest guest(host(), plan(false));
            const auto r = enter(guest, {"", 2, 0, 0}, pending);
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, debug_vector);
            EXPECT_EQ(r.exceptions.rip, layout::code);
            const u64 due = pending & ~enabled_breakpoint;
            EXPECT_EQ(r.reply.state.dr6 & due, due);
        }
        combinations(3);
    });
}

// Not delivered behind the event either.
TEST_F(IntrDebug, vmx_injected_event_loses_a_pending_debug_trap) {
    claim({.sdm = "SDM 3C 27.7.3"}, [&] {
        const std::vector<Event> events{
            {.type = EventType::external_interrupt, .vector = free_vector},
            {.type = EventType::nmi, .vector = 2},
            {.type = EventType::hardware_exception, .vector = 6},
            {.type = EventType::software_interrupt, .vector = free_vector, .length = 2},
            {.type = EventType::software_exception, .vector = 3, .length = 1}};
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Guest guest(host(), plan(true));
            inject(guest, e);
            expect_delivered(e, enter(guest, {"", 2 | rflags_if, 0, 0}, a_breakpoint));
        }
        combinations(events.size());
    });
}

TEST_F(IntrDebug, vmx_single_step_pending_in_a_shadow_follows_tf) {
    claim({.sdm = "SDM 3C 27.3.1.5"}, [&] {
        u64 tried = 0;
        for (const u64 blocking : {vmcs::blocking_by_sti, vmcs::blocking_by_mov_ss}) {
            for (const u64 trap : {u64{0}, rflags_tf}) {
                for (const u64 pending : {u64{0}, single_step}) {
                    SCOPED_TRACE(testing::Message()
                                 << "blocking " << blocking << ", TF " << trap << ", pending " << pending);
                    Guest guest(host(), plan(true));
                    const auto r = enter(guest, {"", 2 | rflags_if | trap, blocking, 0}, pending);
                    const bool agree = (trap != 0) == (pending != 0);
                    EXPECT_EQ(r.outcome, agree ? abi::Outcome::exited : abi::Outcome::entry_refused);
                    EXPECT_EQ(r.reply.refusal.entry_failure, agree ? 0 : invalid_guest_state);
                    ++tried;
                }
            }
        }
        combinations(tried);
    });
}

TEST_F(IntrDebug, vmx_reserved_bits_of_the_pending_debug_exceptions_are_refused) {
    claim({.sdm = "SDM 3C 27.3.1.5"}, [&] { expect_refused({4, 5, 6, 7, 8, 9, 10, 13, 15, 17, 31}); });
}
TEST_F(IntrDebug, vmx_upper_half_of_the_pending_debug_exceptions_is_refused) {
    claim({.sdm = "SDM 3C 27.3.1.5"}, [&] { expect_refused({32, 47, 63}); });
}

TEST_F(IntrDebug, vmx_pending_debug_trap_ends_an_entry_into_hlt) {
    claim({.sdm = "SDM 3C 27.7.2, 27.7.3"}, [&] {
        if ((msr(hello(), vmx_misc) >> 6 & 1) == 0) {
            GTEST_SKIP() << "no activity state HLT (IA32_VMX_MISC[6])";
        }
        Guest guest(host(), plan(true));
        if (offers(vmcs::pin_controls, vmcs::pin_preemption_timer)) { // so that a wait that goes on ends
            change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
        }
        expect_debug_exit(enter(guest, {"", 2, 0, hlt_state}, a_breakpoint), layout::code, breakpoint_0);
    });
}

TEST_F(IntrDebug, vmx_breakpoint_on_mov_ss_is_pending_at_an_exit) {
    claim({.sdm = "SDM 3C 25.4.2, 28.3.4"}, [&] {
        Guest guest(host(), plan(true));
        guest.load(guest_watched_mov_ss);
        const auto r = guest.run({});
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::cpuid) << "before the breakpoint";
        EXPECT_EQ(guest.read_field(vmcs::interruptibility, 4, false), vmcs::blocking_by_mov_ss);
        EXPECT_EQ(guest.read_field(vmcs::pending_debug, 8, false), a_breakpoint);
    });
}

} // namespace refhv::front
