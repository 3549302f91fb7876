// SPDX-License-Identifier: MIT
// What ends the wait of a guest in HLT: the windows, a virtual interrupt, an injected event.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_resting_nops, "nop\n nop\n nop")
GUEST(guest_sti_and_hlt, "sti\n hlt")

constexpr u32 vmx_misc = 0x485;
constexpr u64 active_state = 0, hlt_state = 1, exit_vintr = 0x64;
constexpr u32 patience = 100'000; // units of the preemption timer, so that a wait that nothing ends is a FAIL

} // namespace

class IntrWaiting : public Intr {
  protected:
    static client::Plan plan() {
        client::Plan p;
        p.stop = client::Stop::port; // HLT does not exit
        return p;
    }
    static u64 timer() {
        return offers(vmcs::pin_controls, vmcs::pin_preemption_timer) ? vmcs::pin_preemption_timer : 0;
    }
    static bool no_hlt_state() { return (msr(hello(), vmx_misc) >> 6 & 1) == 0; }
    static bool no_nmi_window() {
        return !offers(vmcs::pin_controls, vmcs::pin_virtual_nmis) ||
               !offers(vmcs::proc_controls, vmcs::proc_nmi_window);
    }
    // A guest whose entry leads into HLT.
    static void rest(Guest& guest, u64 flags) {
        guest.state.rflags = flags;
        guest.load(guest_resting_nops);
        guest.field(vmcs::activity, 4, hlt_state);
    }
};

TEST_F(IntrWaiting, vmx_interrupt_window_ends_an_entry_into_hlt) {
    claim({.sdm = "SDM 3C 27.7.5, 28.1"}, [&] {
        if (no_hlt_state()) {
            GTEST_SKIP() << "no activity state HLT (IA32_VMX_MISC[6])";
        }
        Guest guest(host(), plan());
        rest(guest, 2 | rflags_if);
        change(guest, vmcs::pin_controls, timer());
        change(guest, vmcs::proc_controls, vmcs::proc_interrupt_window);
        expect_exit(guest.run({.preemption_timer = patience}), Reason::interrupt_window, layout::code);
    });
}

TEST_F(IntrWaiting, vmx_interrupt_window_leaves_hlt_alone_while_if_is_0) {
    claim({.sdm = "SDM 3C 26.2, 27.7.5"}, [&] {
        if (no_hlt_state() || timer() == 0) {
            GTEST_SKIP() << "no activity state HLT (IA32_VMX_MISC[6]), or no VMX-preemption timer to end it";
        }
        Guest guest(host(), plan());
        rest(guest, 2);
        change(guest, vmcs::pin_controls, timer());
        change(guest, vmcs::proc_controls, vmcs::proc_interrupt_window);
        const auto r = guest.run({.preemption_timer = patience});
        expect_exit(r, Reason::preemption_timer, layout::code);
        EXPECT_EQ(r.count(Reason::interrupt_window), 0u);
    });
}

TEST_F(IntrWaiting, vmx_nmi_window_ends_an_entry_into_hlt) {
    claim({.sdm = "SDM 3C 27.7.6"}, [&] {
        if (no_hlt_state() || no_nmi_window()) {
            GTEST_SKIP() << "no activity state HLT (IA32_VMX_MISC[6]), or no NMI-window exiting";
        }
        for (const u64 flags : {u64{2}, 2 | rflags_if}) {
            SCOPED_TRACE(flags);
            Guest guest(host(), plan());
            rest(guest, flags);
            change(guest, vmcs::pin_controls, timer() | vmcs::pin_virtual_nmis);
            change(guest, vmcs::proc_controls, vmcs::proc_nmi_window);
            expect_exit(guest.run({.preemption_timer = patience}), Reason::nmi_window, layout::code);
        }
        combinations(2);
    });
}

TEST_F(IntrWaiting, vmx_injected_event_makes_the_guest_active) {
    claim({.sdm = "SDM 3C 27.7.2"}, [&] {
        if (no_hlt_state()) {
            GTEST_SKIP() << "no activity state HLT (IA32_VMX_MISC[6])";
        }
        const std::vector<Event> events{{.type = EventType::external_interrupt, .vector = free_vector},
                                        {.type = EventType::nmi, .vector = 2}};
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Guest guest(host(), plan());
            rest(guest, 2 | rflags_if);
            change(guest, vmcs::pin_controls, timer());
            inject(guest, e);
            const auto r = guest.run({.preemption_timer = patience});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::io_out) << "the stop stub";
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, e.vector);
            EXPECT_EQ(r.exceptions.rip, layout::code);
            EXPECT_EQ(guest.read_field(vmcs::activity, 4, false), active_state);
        }
        combinations(events.size());
    });
}

// The shadow of STI keeps the window shut until the guest waits.
TEST_F(IntrWaiting, vmx_interrupt_window_ends_hlt) {
    claim({.sdm = "SDM 3C 26.2"}, [&] {
        Guest guest(host(), plan());
        guest.load(guest_sti_and_hlt);
        change(guest, vmcs::pin_controls, timer());
        change(guest, vmcs::proc_controls, vmcs::proc_interrupt_window);
        expect_exit(guest.run({.preemption_timer = patience}), Reason::interrupt_window,
                    layout::code + guest_sti_and_hlt.size());
    });
}

TEST_F(IntrWaiting, svm_vintr_intercept_ends_hlt) {
    claim({.apm = "APM 2 15.21.4, 15.21.6"}, [&] {
        Guest guest(host(), plan());
        guest.load(guest_sti_and_hlt);
        change(guest, vmcb::intercept_1, vmcb::vintr);
        guest.field(vmcb::interrupt_control, 8,
                    vmcb::v_irq | vmcb::v_ign_tpr | vmcb::v_intr_masking | vmcb::v_intr_vector(free_vector));
        const u64 deadline = 2'000'000 * (host().target.info().counts_instructions ? 1 : 100);
        const auto r = guest.run({.deadline = deadline});
        expect_exit(r, Reason::interrupt_window, layout::code + guest_sti_and_hlt.size());
        EXPECT_EQ(r.reply.exit.raw_reason, exit_vintr);
    });
}

} // namespace refhv::front
