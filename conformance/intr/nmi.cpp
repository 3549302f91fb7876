// SPDX-License-Identifier: MIT
// Virtual NMIs: what blocks them and what tells so. VMX's beside the NMI window, SVM's V_NMI.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_nmi_nops, "nop\n nop\n nop")
GUEST(guest_bad_iret, "push $0\n push $0\n push $0\n push $0\n push $0\n iretq") // CS is null
GUEST(guest_bad_load, "mov $1, %eax\n shl $62, %rax\n mov (%rax), %eax")         // not canonical: #GP
GUEST(guest_bad_iret_begin, "push $0\n push $0\n push $0\n push $0\n push $0")

constexpr Event an_nmi{.type = EventType::nmi, .vector = 2};
constexpr u32 general_protection = 13, not_present = 11, invalid_guest_state = 33, invalid_controls = 7;
constexpr u64 nmi_unblocking = 1u << 12; // of the VM-exit interruption information
constexpr u64 v_nmi = 1u << 11, v_nmi_mask = 1u << 12, v_nmi_enable = 1u << 26;
constexpr u64 pin_nmi_exiting = 1u << 3;

} // namespace

class IntrNmi : public Intr {
  protected:
    static constexpr u64 step = 1; // what the guest's handler adds to RIP before it returns

    static bool no_virtual_nmis() { return !offers(vmcs::pin_controls, vmcs::pin_virtual_nmis); }
    static bool no_v_nmi() { return (cpuid(hello(), 0x8000'000a, 0, 3) >> 25 & 1) == 0; }
    static constexpr const char* without_v_nmi = "no virtual NMI: CPUID.8000000AH:EDX[25] is 0";
    static constexpr const char* without_virtual_nmis = "no virtual NMIs: IA32_VMX_PINBASED_CTLS, control 5";
    static client::Plan intercepting(u32 vector) {
        client::Plan p;
        p.exceptions = 1u << vector;
        return p;
    }
    static u64 blocking_left(Guest& guest) {
        return guest.read_field(vmcs::interruptibility, 4, false) & vmcs::blocking_by_nmi;
    }
    static u64 v_nmi_left(Guest& guest) {
        return guest.read_field(vmcb::interrupt_control, 8, false) & (v_nmi | v_nmi_mask);
    }
    static void control(Guest& guest, u64 bits) {
        guest.field(vmcb::interrupt_control, 8, vmcb::v_intr_masking | v_nmi_enable | bits);
    }
};

TEST_F(IntrNmi, vmx_iret_that_faults_ends_blocking_and_says_so) {
    claim({.sdm = "SDM 3C 28.1, 28.2.3"}, [&] {
        needs(abi::Permit::deaf_guests);
        if (no_virtual_nmis()) {
            GTEST_SKIP() << without_virtual_nmis;
        }
        for (const u64 blocking : {u64{0}, vmcs::blocking_by_nmi}) {
            SCOPED_TRACE(blocking);
            Guest guest(host(), intercepting(general_protection));
            guest.load(guest_bad_iret);
            change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
            guest.field(vmcs::interruptibility, 4, blocking);
            const auto r = guest.run({});
            expect_exit(r, Reason::exception, layout::code + guest_bad_iret_begin.size());
            EXPECT_EQ(r.reply.exit.vector, general_protection);
            EXPECT_EQ(r.reply.exit.interruption_info & nmi_unblocking, blocking != 0 ? nmi_unblocking : 0);
            EXPECT_EQ(blocking_left(guest), 0u);
        }
        combinations(2);
    });
}

// A fault of anything but IRET leaves the blocking as it is.
TEST_F(IntrNmi, vmx_other_faults_leave_blocking_alone) {
    claim({.sdm = "SDM 3C 28.2.3, 28.3.4"}, [&] {
        if (no_virtual_nmis()) {
            GTEST_SKIP() << without_virtual_nmis;
        }
        for (const u64 blocking : {u64{0}, vmcs::blocking_by_nmi}) {
            SCOPED_TRACE(blocking);
            Guest guest(host(), intercepting(general_protection));
            guest.load(guest_bad_load);
            change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
            guest.field(vmcs::interruptibility, 4, blocking);
            const auto r = guest.run({});
            EXPECT_EQ(r.reply.exit.vector, general_protection);
            EXPECT_EQ(r.reply.exit.interruption_info & nmi_unblocking, 0u);
            EXPECT_EQ(blocking_left(guest), blocking);
        }
        end_nmi_blocking();
        combinations(2);
    });
}

TEST_F(IntrNmi, vmx_injected_nmi_blocks_even_if_its_delivery_exits) {
    claim({.sdm = "SDM 3C 28.1"}, [&] {
        if (no_virtual_nmis()) {
            GTEST_SKIP() << without_virtual_nmis;
        }
        Guest guest(host(), intercepting(not_present));
        guest.load(guest_nmi_nops);
        change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
        meet_missing_gate(guest, an_nmi);
        const auto r = guest.run({});
        expect_exit(r, Reason::exception, layout::code);
        EXPECT_EQ(blocking_left(guest), vmcs::blocking_by_nmi);
        end_nmi_blocking();
    });
}

TEST_F(IntrNmi, vmx_nmi_injected_while_nmis_are_blocked_is_refused) {
    claim({.sdm = "SDM 3C 27.3.1.5"}, [&] {
        if (no_virtual_nmis()) {
            GTEST_SKIP() << without_virtual_nmis;
        }
        for (const u64 blocking : {u64{0}, vmcs::blocking_by_nmi}) {
            SCOPED_TRACE(blocking);
            Guest guest(host(), client::Plan{});
            guest.load(guest_nmi_nops);
            change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
            guest.field(vmcs::interruptibility, 4, blocking);
            inject(guest, an_nmi);
            const auto r = guest.run({});
            if (blocking == 0) {
                expect_delivered(an_nmi, r);
            } else {
                EXPECT_EQ(r.outcome, abi::Outcome::entry_refused);
                EXPECT_EQ(r.reply.refusal.entry_failure, invalid_guest_state);
            }
        }
        end_nmi_blocking();
        combinations(2);
    });
}

// Whatever the guest before it left.
TEST_F(IntrNmi, vmx_entry_blocks_virtual_nmis_as_its_field_says) {
    claim({.sdm = "SDM 3C 26.2, 27.7.1, 27.7.6"}, [&] {
        if (no_virtual_nmis() || !offers(vmcs::proc_controls, vmcs::proc_nmi_window)) {
            GTEST_SKIP() << without_virtual_nmis << ", or no NMI-window exiting";
        }
        for (const u64 before : {vmcs::blocking_by_nmi, u64{0}}) {
            for (const u64 blocking : {u64{0}, vmcs::blocking_by_nmi}) {
                SCOPED_TRACE(testing::Message() << "blocking " << blocking << " behind " << before);
                for (const bool last : {false, true}) {
                    Guest guest(host(), client::Plan{});
                    guest.load(guest_nmi_nops);
                    change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
                    change(guest, vmcs::proc_controls, last ? vmcs::proc_nmi_window : 0);
                    guest.field(vmcs::interruptibility, 4, last ? blocking : before);
                    const auto r = guest.run({});
                    if (last && blocking == 0) {
                        expect_exit(r, Reason::nmi_window, layout::code);
                    } else {
                        expect_stopped(r);
                    }
                }
            }
        }
        end_nmi_blocking();
        combinations(4);
    });
}

TEST_F(IntrNmi, vmx_controls_of_nmis_need_each_other) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        if (no_virtual_nmis()) {
            GTEST_SKIP() << without_virtual_nmis;
        }
        struct Controls {
            u64 pin_set, pin_clear, proc;
            bool good;
        };
        const std::vector<Controls> all{
            {vmcs::pin_virtual_nmis | pin_nmi_exiting, 0, 0, true},
            {vmcs::pin_virtual_nmis, pin_nmi_exiting, 0, false},
            {pin_nmi_exiting, vmcs::pin_virtual_nmis, vmcs::proc_nmi_window, false},
        };
        u64 tried = 0;
        for (const Controls& c : all) {
            if (c.proc != 0 && !offers(vmcs::proc_controls, c.proc)) {
                continue;
            }
            SCOPED_TRACE(tried);
            Guest guest(host(), client::Plan{});
            guest.load(guest_nmi_nops);
            change(guest, vmcs::pin_controls, c.pin_set, c.pin_clear);
            change(guest, vmcs::proc_controls, c.proc);
            const auto r = guest.run({});
            if (c.good) {
                expect_stopped(r);
            } else {
                EXPECT_EQ(r.outcome, abi::Outcome::entry_refused);
                EXPECT_EQ(r.reply.refusal.instruction_error, invalid_controls);
            }
            ++tried;
        }
        combinations(tried);
    });
}

TEST_F(IntrNmi, svm_virtual_nmi_is_taken_whatever_if_says) {
    claim({.apm = "APM 2 15.21.10"}, [&] {
        if (no_v_nmi()) {
            GTEST_SKIP() << without_v_nmi;
        }
        for (const u64 flags : {u64{2}, 2 | rflags_if}) {
            Guest guest(host(), client::Plan{});
            guest.state.rflags = flags;
            guest.load(guest_nmi_nops);
            control(guest, v_nmi);
            const auto r = guest.run({});
            expect_delivered(an_nmi, r);
            EXPECT_EQ(v_nmi_left(guest), v_nmi_mask) << "until IRET";
        }
        combinations(2);
    });
}

TEST_F(IntrNmi, svm_virtual_nmi_waits_while_nmis_are_masked) {
    claim({.apm = "APM 2 15.21.10"}, [&] {
        if (no_v_nmi()) {
            GTEST_SKIP() << without_v_nmi;
        }
        Guest guest(host(), client::Plan{});
        guest.load(guest_nmi_nops);
        control(guest, v_nmi | v_nmi_mask);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(v_nmi_left(guest), v_nmi | v_nmi_mask);
    });
}

TEST_F(IntrNmi, svm_iret_ends_the_mask_of_virtual_nmis) {
    claim({.apm = "APM 2 15.21.10"}, [&] {
        if (no_v_nmi()) {
            GTEST_SKIP() << without_v_nmi;
        }
        Guest guest(host(), client::Plan{});
        guest.load(guest_nmi_nops);
        control(guest, v_nmi);
        const auto r = guest.run({.handler_advance = step});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(v_nmi_left(guest), 0u);
    });
}

} // namespace refhv::front
