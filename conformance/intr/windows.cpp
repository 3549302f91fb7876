// SPDX-License-Identifier: MIT
// VMX: interrupt-window and NMI-window exiting, and what keeps the windows shut.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

GUEST(guest_three_nops, "nop\n nop\n nop")
GUEST(guest_sti_cpuid, "sti\n cpuid")
GUEST(guest_mov_ss_cpuid, "mov %ss, %eax\n mov %eax, %ss\n cpuid")
GUEST(guest_cpuid, "nop\n cpuid")

constexpr Event invalid_opcode{.type = EventType::hardware_exception, .vector = 6};
constexpr Event an_nmi{.type = EventType::nmi, .vector = 2};

} // namespace

class IntrWindow : public Intr {
  protected:
    static constexpr u64 step = 1; // what the guest's handler adds to RIP before it returns

    static bool no_nmi_window() {
        return !offers(vmcs::pin_controls, vmcs::pin_virtual_nmis) ||
               !offers(vmcs::proc_controls, vmcs::proc_nmi_window);
    }
    static void open_interrupt_window(Guest& guest) {
        change(guest, vmcs::proc_controls, vmcs::proc_interrupt_window);
    }
    static void open_nmi_window(Guest& guest) {
        change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
        change(guest, vmcs::proc_controls, vmcs::proc_nmi_window);
    }
};

TEST_F(IntrWindow, vmx_interrupt_window_opens_with_if_and_behind_shadows) {
    claim({.sdm = "SDM 3C 26.2, 27.7.5"}, [&] {
        for (const Opening& o : openings()) {
            SCOPED_TRACE(o.what);
            Guest guest(host(), client::Plan{});
            prepare(guest, o);
            open_interrupt_window(guest);
            const auto r = guest.run({});
            if (o.at == Opening::never) {
                expect_stopped(r);
            } else {
                expect_exit(r, Reason::interrupt_window, code + o.at);
                EXPECT_EQ(r.reply.exit.raw_reason, 7u);
                EXPECT_EQ(r.reply.exit.qualification, 0u);
            }
            EXPECT_EQ(r.exceptions.count, 0u);
        }
        combinations(openings().size());
    });
}

TEST_F(IntrWindow, vmx_interrupt_window_is_shut_for_one_instruction_by_mov_ss) {
    claim({.sdm = "SDM 3C 26.2, 27.7.1"}, [&] {
        Guest guest(host(), client::Plan{});
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_three_nops);
        open_interrupt_window(guest);
        guest.field(vmcs::interruptibility, 4, vmcs::blocking_by_mov_ss);
        expect_exit(guest.run({}), Reason::interrupt_window, code + 1);
    });
}

// Blocking by NMI does not concern it.
TEST_F(IntrWindow, vmx_interrupt_window_is_open_while_nmis_are_blocked) {
    claim({.sdm = "SDM 3C 26.2"}, [&] {
        Guest guest(host(), client::Plan{});
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_three_nops);
        open_interrupt_window(guest);
        guest.field(vmcs::interruptibility, 4, vmcs::blocking_by_nmi);
        expect_exit(guest.run({}), Reason::interrupt_window, code);
    });
}

// The handler's gate clears IF; its IRET opens the window.
TEST_F(IntrWindow, vmx_interrupt_window_follows_an_injected_event) {
    claim({.sdm = "SDM 3C 27.7.5"}, [&] {
        const std::vector<Event> events{
            invalid_opcode, an_nmi, {.type = EventType::external_interrupt, .vector = free_vector}};
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Guest guest(host(), client::Plan{});
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_three_nops);
            open_interrupt_window(guest);
            inject(guest, e);
            const auto r = guest.run({.handler_advance = step});
            expect_exit(r, Reason::interrupt_window, code + step);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, e.vector);
            EXPECT_EQ(r.exceptions.rip, code);
        }
        combinations(events.size());
    });
}

TEST_F(IntrWindow, vmx_nmi_window_opens_whatever_if_says) {
    claim({.sdm = "SDM 3C 26.2, 27.7.6"}, [&] {
        if (no_nmi_window()) {
            GTEST_SKIP() << "no virtual NMIs or no NMI-window exiting";
        }
        for (const u64 flags : {u64{2}, 2 | rflags_if}) {
            Guest guest(host(), client::Plan{});
            guest.state.rflags = flags;
            guest.load(guest_three_nops);
            open_nmi_window(guest);
            const auto r = guest.run({});
            expect_exit(r, Reason::nmi_window, code);
            EXPECT_EQ(r.reply.exit.raw_reason, 8u);
            EXPECT_EQ(r.reply.exit.qualification, 0u);
        }
        combinations(2);
    });
}

// Whether blocking by STI shuts it too is left to the CPU.
TEST_F(IntrWindow, vmx_nmi_window_is_shut_for_one_instruction_by_mov_ss) {
    claim({.sdm = "SDM 3C 26.2, 27.7.6"}, [&] {
        if (no_nmi_window()) {
            GTEST_SKIP() << "no virtual NMIs or no NMI-window exiting";
        }
        for (const u64 blocking : {vmcs::blocking_by_mov_ss, vmcs::blocking_by_sti}) {
            SCOPED_TRACE(blocking);
            Guest guest(host(), client::Plan{});
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_three_nops);
            open_nmi_window(guest);
            guest.field(vmcs::interruptibility, 4, blocking);
            const auto r = guest.run({});
            const bool at_once = blocking == vmcs::blocking_by_sti && r.reply.state.rip == code;
            expect_exit(r, Reason::nmi_window, code + (at_once ? 0 : 1));
        }
        combinations(2);
    });
}

TEST_F(IntrWindow, vmx_nmi_window_is_shut_by_nmi_until_iret) {
    claim({.sdm = "SDM 3C 26.2, 26.3"}, [&] {
        if (no_nmi_window()) {
            GTEST_SKIP() << "no virtual NMIs or no NMI-window exiting";
        }
        for (const bool returns : {false, true}) {
            SCOPED_TRACE(returns ? "with an IRET" : "without");
            Guest guest(host(), client::Plan{});
            guest.load(guest_three_nops);
            open_nmi_window(guest);
            guest.field(vmcs::interruptibility, 4, vmcs::blocking_by_nmi);
            if (returns) {
                inject(guest, invalid_opcode);
            }
            const auto r = guest.run({.handler_advance = step});
            if (returns) {
                expect_exit(r, Reason::nmi_window, code + step);
            } else {
                expect_stopped(r);
                EXPECT_EQ(guest.read_field(vmcs::interruptibility, 4, false), vmcs::blocking_by_nmi);
            }
            EXPECT_EQ(r.exceptions.count, returns ? 1u : 0u);
        }
        combinations(2);
    });
}

TEST_F(IntrWindow, vmx_injected_nmi_shuts_the_nmi_window_until_iret) {
    claim({.sdm = "SDM 3C 27.6.1.1, 27.7.6"}, [&] {
        if (no_nmi_window()) {
            GTEST_SKIP() << "no virtual NMIs or no NMI-window exiting";
        }
        Guest guest(host(), client::Plan{});
        guest.load(guest_three_nops);
        open_nmi_window(guest);
        inject(guest, an_nmi);
        const auto r = guest.run({.handler_advance = step});
        expect_exit(r, Reason::nmi_window, code + step);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, 2u);
        EXPECT_EQ(guest.read_field(vmcs::interruptibility, 4, false), 0u) << "behind the IRET";
    });
}

TEST_F(IntrWindow, vmx_interruptibility_names_the_shadow) {
    claim({.sdm = "SDM 3C 25.4.2, 28.3.4"}, [&] {
        struct Shadow {
            client::GuestCode code;
            u64 flags, blocking;
        };
        const std::vector<Shadow> shadows{{guest_sti_cpuid, 2, vmcs::blocking_by_sti},
                                          {guest_sti_cpuid, 2 | rflags_if, 0},
                                          {guest_mov_ss_cpuid, 2, vmcs::blocking_by_mov_ss},
                                          {guest_mov_ss_cpuid, 2 | rflags_if, vmcs::blocking_by_mov_ss},
                                          {guest_cpuid, 2, 0}};
        for (const Shadow& s : shadows) {
            Guest guest(host(), client::Plan{});
            guest.state.rflags = s.flags;
            guest.load(s.code);
            const auto r = guest.run({});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::cpuid);
            EXPECT_EQ(guest.read_field(vmcs::interruptibility, 4, false), s.blocking);
        }
        combinations(shadows.size());
    });
}

} // namespace refhv::front
