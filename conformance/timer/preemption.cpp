// SPDX-License-Identifier: MIT
// The VMX-preemption timer: when it exits, how fast it counts, what is saved of it. Bounds are counted in
// changes of bit X of the TSC, X from IA32_VMX_MISC[4:0], and hold on every CPU: the guest's own readings lie
// inside the time that the timer ran, the host's outside.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

#define TSC_IN_RAX "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n"
#define STORE_TSC(where) TSC_IN_RAX "mov %rax, " REFHV_ASM(REFHV_SCRATCH) "+" where "\n"

GUEST(guest_halts, "hlt")
GUEST(guest_timed_nops, "nop\n nop\n nop")
GUEST(guest_watch_tsc, STORE_TSC("0") "1:" STORE_TSC("8") "jmp 1b")
GUEST(guest_time_and_exit, STORE_TSC("0") "mov $1000, %ecx\n 1: loop 1b\n" STORE_TSC("8") "cpuid")

constexpr u32 timer_value = 0x482e, vmx_misc = 0x485;
constexpr u64 hlt_state = 1, shutdown_state = 2;

} // namespace

class TimerPreemption : public Intr {
  protected:
    static bool missing() { return !offers(vmcs::pin_controls, vmcs::pin_preemption_timer); }
    static bool cannot_save() { return !offers(vmcs::exit_controls, vmcs::exit_save_timer); }
    static bool cannot_start_in_hlt() { return (msr(hello(), vmx_misc) >> 6 & 1) == 0; }
    static void arm(Guest& guest) { change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer); }

    struct State {
        u64 flags, blocking;
    };
    void expect_zero_exits_at_once(const std::vector<State>& states) {
        if (missing()) {
            GTEST_SKIP() << "no VMX-preemption timer";
        }
        for (const State& s : states) {
            SCOPED_TRACE(testing::Message() << "RFLAGS " << s.flags << ", interruptibility " << s.blocking);
            Guest guest(host(), client::Plan{});
            guest.state.rflags = s.flags;
            guest.load(guest_timed_nops);
            arm(guest);
            guest.field(vmcs::interruptibility, 4, s.blocking);
            const auto r = guest.run({.preemption_timer = 0});
            expect_exit(r, Reason::preemption_timer, layout::code);
            EXPECT_EQ(guest.read_field(vmcs::interruptibility, 4, false), s.blocking) << "as it was";
        }
        combinations(states.size());
    }

    // How often bit X of the TSC changed.
    static u64 units(u64 from, u64 to) {
        const u64 x = msr(hello(), vmx_misc) & 31;
        return (to >> x) - (from >> x);
    }

    void expect_saved_as_zero(const std::vector<u32>& values) {
        if (missing() || cannot_save()) {
            GTEST_SKIP() << "no VMX-preemption timer, or it cannot be saved";
        }
        for (const u32 value : values) {
            SCOPED_TRACE(value);
            Guest guest(host(), client::Plan{});
            guest.load(guest_watch_tsc);
            arm(guest);
            change(guest, vmcs::exit_controls, vmcs::exit_save_timer);
            const auto r = guest.run({.preemption_timer = value});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::preemption_timer);
            EXPECT_EQ(guest.read_field(timer_value, 4, false), 0u);
        }
        combinations(values.size());
    }

    // Bit 6 of IA32_VMX_MISC is the activity state HLT, bit 7 shutdown.
    void expect_ended(u64 activity, const std::vector<u32>& values) {
        if (missing() || (msr(hello(), vmx_misc) >> (5 + activity) & 1) == 0) {
            GTEST_SKIP() << "no VMX-preemption timer, or IA32_VMX_MISC[" << 5 + activity << "] is 0";
        }
        for (const u32 value : values) {
            SCOPED_TRACE(value);
            Guest guest(host(), client::Plan{});
            guest.load(guest_timed_nops);
            arm(guest);
            guest.field(vmcs::activity, 4, activity);
            const auto r = guest.run({.preemption_timer = value});
            expect_exit(r, Reason::preemption_timer, layout::code);
            EXPECT_GE(units(r.reply.tsc_begin, r.reply.tsc_end), value) << "too early";
        }
        combinations(values.size());
    }

    // A run that nothing of the host's interrupted; after a few tries, one that was.
    template <class Prepare>
    static client::RunResult undisturbed(Prepare prepare, u32 value, std::vector<u64>& readings) {
        constexpr unsigned tries = 10;
        for (unsigned i = 1;; ++i) {
            Guest guest(host(), client::Plan{});
            prepare(guest);
            auto r = guest.run({.preemption_timer = value});
            readings = guest.read64(REFHV_SCRATCH, 2);
            if (r.reply.entries == 1 || i == tries) {
                return r;
            }
        }
    }
};

TEST_F(TimerPreemption, vmx_zero_exits_before_any_instruction) {
    claim({.sdm = "SDM 3C 26.2, 27.7.4"}, [&] {
        expect_zero_exits_at_once({{2, 0}, {2 | rflags_if, 0}, {2, vmcs::blocking_by_nmi}});
    });
}

// What blocks it is the activity state alone.
TEST_F(TimerPreemption, vmx_zero_exits_before_any_instruction_in_a_shadow) {
    claim({.sdm = "SDM 3C 26.2, 27.7.4"}, [&] {
        expect_zero_exits_at_once({{2 | rflags_if, vmcs::blocking_by_sti},
                                   {2, vmcs::blocking_by_mov_ss},
                                   {2 | rflags_if, vmcs::blocking_by_mov_ss}});
    });
}

TEST_F(TimerPreemption, vmx_counts_at_its_rate_against_the_tsc) {
    claim({.sdm = "SDM 3C 26.5.1; SDM 3D A.6"}, [&] {
        if (missing()) {
            GTEST_SKIP() << "no VMX-preemption timer";
        }
        u64 tried = 0;
        for (const u32 value : {1u, 2u, 3u, 100u, 1'000u, 10'000u}) {
            SCOPED_TRACE(value);
            std::vector<u64> tsc;
            const auto r = undisturbed(
                [](Guest& guest) {
                    guest.load(guest_watch_tsc);
                    arm(guest);
                },
                value, tsc);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::preemption_timer);
            EXPECT_GE(units(r.reply.tsc_begin, r.reply.tsc_end), value) << "too early";
            if (tsc[1] != 0) {
                EXPECT_LE(units(tsc[0], tsc[1]), u64{value} + 1) << "too late";
            }
            ++tried;
        }
        combinations(tried);
    });
}

TEST_F(TimerPreemption, vmx_saved_value_is_what_is_left) {
    claim({.sdm = "SDM 3C 25.7.1, 28.3.4"}, [&] {
        if (missing() || cannot_save()) {
            GTEST_SKIP() << "no VMX-preemption timer, or it cannot be saved";
        }
        constexpr u32 value = 1u << 30;
        std::vector<u64> tsc;
        u64 left = 0;
        Guest guest(host(), client::Plan{});
        guest.load(guest_time_and_exit);
        arm(guest);
        change(guest, vmcs::exit_controls, vmcs::exit_save_timer);
        const auto r = guest.run({.preemption_timer = value});
        tsc = guest.read64(REFHV_SCRATCH, 2);
        left = guest.read_field(timer_value, 4, false);
        ASSERT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::cpuid);
        // Every entry counts anew from where the last exit left it, so each may lose one change.
        EXPECT_GE(value - left + r.reply.entries, units(tsc[0], tsc[1])) << "too little has gone";
        EXPECT_LE(value - left, units(r.reply.tsc_begin, r.reply.tsc_end)) << "too much has gone";
    });
}

TEST_F(TimerPreemption, vmx_expired_timer_is_saved_as_zero) {
    claim({.sdm = "SDM 3C 28.3.4"}, [&] { expect_saved_as_zero({1, 2, 100}); });
}
// Also where the timer counted from another value in the run before.
TEST_F(TimerPreemption, vmx_timer_of_zero_is_saved_as_zero) {
    claim({.sdm = "SDM 3C 28.3.4"}, [&] {
        if (!missing()) {
            Guest before(host(), client::Plan{});
            before.load(guest_time_and_exit);
            arm(before);
            static_cast<void>(before.run({.preemption_timer = 1u << 30}));
        }
        expect_saved_as_zero({0});
    });
}

TEST_F(TimerPreemption, vmx_value_stays_where_it_is_not_saved) {
    claim({.sdm = "SDM 3C 25.7.1, 27.7.4"}, [&] {
        if (missing()) {
            GTEST_SKIP() << "no VMX-preemption timer";
        }
        constexpr u32 value = 1u << 30;
        Guest guest(host(), client::Plan{});
        guest.load(guest_time_and_exit);
        arm(guest);
        const auto r = guest.run({.preemption_timer = value});
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::cpuid);
        EXPECT_EQ(guest.read_field(timer_value, 4, false), value);
    });
}

TEST_F(TimerPreemption, vmx_ends_an_entry_into_hlt) {
    claim({.sdm = "SDM 3C 26.2, 26.5.1, 27.7.2, 28.1"}, [&] { expect_ended(hlt_state, {0, 1, 1'000}); });
}
TEST_F(TimerPreemption, vmx_ends_an_entry_into_shutdown) {
    claim({.sdm = "SDM 3C 26.2, 26.5.1, 27.7.2"}, [&] { expect_ended(shutdown_state, {0, 1'000}); });
}

TEST_F(TimerPreemption, vmx_ends_a_hlt_of_the_guest) {
    claim({.sdm = "SDM 3C 26.5.1"}, [&] {
        if (missing()) {
            GTEST_SKIP() << "no VMX-preemption timer";
        }
        for (const u64 flags : {u64{2}, 2 | rflags_if}) {
            SCOPED_TRACE(flags);
            Guest guest(host(), {.stop = client::Stop::port}); // HLT does not exit
            guest.state.rflags = flags;
            guest.load(guest_halts);
            arm(guest);
            constexpr u32 value = 1'000;
            const auto r = guest.run({.preemption_timer = value});
            expect_exit(r, Reason::preemption_timer, layout::code + guest_halts.size());
            EXPECT_GE(units(r.reply.tsc_begin, r.reply.tsc_end), value) << "too early";
        }
        combinations(2);
    });
}

// The return to the active state comes after the exit only.
TEST_F(TimerPreemption, vmx_exit_out_of_hlt_saves_the_activity_state) {
    claim({.sdm = "SDM 3C 28.1, 28.3.4"}, [&] {
        if (missing() || cannot_start_in_hlt()) {
            GTEST_SKIP() << "no VMX-preemption timer, or no activity state HLT (IA32_VMX_MISC[6])";
        }
        Guest guest(host(), client::Plan{});
        guest.load(guest_timed_nops);
        arm(guest);
        guest.field(vmcs::activity, 4, hlt_state);
        const auto r = guest.run({.preemption_timer = 1'000});
        expect_exit(r, Reason::preemption_timer, layout::code);
        EXPECT_EQ(guest.read_field(vmcs::activity, 4, false), hlt_state);
    });
}

} // namespace refhv::front
