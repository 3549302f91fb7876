// SPDX-License-Identifier: MIT
// The task priority that a guest sets through CR8: V_TPR of SVM, the TPR shadow and its threshold of VMX.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_sti_cr8, "sti\n nop\n mov %rax, %cr8\n nop")
GUEST(guest_sti_cr8_end, "sti\n nop\n mov %rax, %cr8")
GUEST(guest_write_cr8, "mov %rax, %cr8\n nop\n nop")
GUEST(guest_write_cr8_end, "mov %rax, %cr8")
GUEST(guest_read_cr8, "mov %cr8, %rbx")
GUEST(guest_nothing_to_do, "nop")
GUEST(guest_sti_then_cpuid, "sti\n cpuid")
GUEST(guest_cpuid_behind_nop, "nop\n cpuid")
GUEST(guest_mov_ss_then_cpuid, "mov %ss, %eax\n mov %eax, %ss\n cpuid")

constexpr u32 virtual_apic_address = 0x2012, tpr_threshold_field = 0x401c;
constexpr u64 virtual_tpr = layout::arena + 0x80; // of the virtual-APIC page
constexpr u64 highest = 15;

} // namespace

class IntrTpr : public Intr {
  protected:
    static bool no_tpr_shadow() { return !offers(vmcs::proc_controls, vmcs::proc_tpr_shadow); }
    static client::Plan plan() {
        client::Plan p;
        p.arena_pages = 1;
        return p;
    }
    // The guest's TPR in the virtual-APIC page at layout::arena.
    static void shadow_tpr(Guest& guest, u64 priority, u64 threshold) {
        const u64 value = priority << 4;
        guest.write(virtual_tpr, {reinterpret_cast<const u8*>(&value), sizeof value});
        guest.field(virtual_apic_address, 8, guest.host_physical(layout::arena));
        change(guest, vmcs::proc_controls, vmcs::proc_tpr_shadow);
        guest.field(tpr_threshold_field, 4, threshold);
    }
    static u64 tpr_left(Guest& guest) { return guest.read64(virtual_tpr, 1)[0] & 0xff; }
};

TEST_F(IntrTpr, vmx_mov_to_cr8_exits_behind_itself_below_the_threshold) {
    claim({.sdm = "SDM 3C 26.3, 30.1.2"}, [&] {
        if (no_tpr_shadow()) {
            GTEST_SKIP() << "no TPR shadow";
        }
        u64 tried = 0;
        for (const u64 threshold : {0, 1, 8, 15}) {
            for (const u64 tpr : {0, 1, 7, 8, 14, 15}) {
                SCOPED_TRACE(testing::Message() << "threshold " << threshold << ", CR8 " << tpr);
                Guest guest(host(), plan());
                guest.state.gpr[abi::rax] = tpr;
                guest.load(guest_write_cr8);
                shadow_tpr(guest, highest, threshold);
                const auto r = guest.run({});
                if (tpr < threshold) {
                    expect_exit(r, Reason::tpr_threshold, layout::code + guest_write_cr8_end.size());
                    EXPECT_EQ(r.reply.exit.raw_reason, 43u);
                } else {
                    expect_stopped(r);
                }
                EXPECT_EQ(tpr_left(guest), tpr << 4) << "VTPR";
                ++tried;
            }
        }
        combinations(tried);
    });
}

TEST_F(IntrTpr, vmx_mov_from_cr8_reads_the_shadow) {
    claim({.sdm = "SDM 3C 26.3"}, [&] {
        if (no_tpr_shadow()) {
            GTEST_SKIP() << "no TPR shadow";
        }
        for (u64 tpr = 0; tpr <= highest; ++tpr) {
            SCOPED_TRACE(tpr);
            Guest guest(host(), plan());
            guest.load(guest_read_cr8);
            shadow_tpr(guest, tpr, 0);
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.reply.state.gpr[abi::rbx], tpr);
        }
        combinations(highest + 1);
    });
}

// Where APIC accesses are not virtualized, an entry that would be below its threshold is refused.
TEST_F(IntrTpr, vmx_threshold_above_the_shadow_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        if (no_tpr_shadow()) {
            GTEST_SKIP() << "no TPR shadow";
        }
        for (const u64 tpr : {0, 7, 14}) {
            for (const u64 above : {0, 1}) {
                SCOPED_TRACE(testing::Message() << "threshold " << tpr + above << ", VTPR " << tpr);
                Guest guest(host(), plan());
                guest.load(guest_nothing_to_do);
                shadow_tpr(guest, tpr, tpr + above);
                const auto r = guest.run({});
                if (above == 0) {
                    expect_stopped(r);
                } else {
                    constexpr u32 invalid_control_fields = 7;
                    EXPECT_EQ(r.outcome, abi::Outcome::entry_refused);
                    EXPECT_EQ(r.reply.refusal.instruction_error, invalid_control_fields);
                }
            }
        }
        combinations(6);
    });
}

TEST_F(IntrTpr, svm_interrupt_shadow_is_saved) {
    claim({.apm = "APM 2 15.21.5"}, [&] {
        struct Shadow {
            client::GuestCode code;
            u64 flags, shadow;
        };
        const std::vector<Shadow> shadows{{guest_sti_then_cpuid, 2, 1},
                                          {guest_sti_then_cpuid, 2 | rflags_if, 0},
                                          {guest_mov_ss_then_cpuid, 2, 1},
                                          {guest_mov_ss_then_cpuid, 2 | rflags_if, 1},
                                          {guest_cpuid_behind_nop, 2, 0}};
        client::Plan p;
        p.intercepts = client::on(abi::Intercept::cpuid);
        for (usize i = 0; i < shadows.size(); ++i) {
            SCOPED_TRACE(i);
            Guest guest(host(), p);
            guest.state.rflags = shadows[i].flags;
            guest.load(shadows[i].code);
            const auto r = guest.run({});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::cpuid);
            EXPECT_EQ(guest.read_field(vmcb::interrupt_shadow, 8, false) & 1, shadows[i].shadow);
        }
        combinations(shadows.size());
    });
}

// Last of the file: QEMU 7.2 does not survive it.
TEST_F(IntrTpr, svm_lowering_cr8_lets_a_virtual_interrupt_in) {
    claim({.apm = "APM 2 15.21.2, 15.21.4"}, [&] {
        u64 tried = 0;
        for (const u64 priority : {1, 8, 14}) {
            for (const u64 tpr : {0, 1, 7, 8, 14, 15}) {
                if (priority == tpr) {
                    continue; // svm_virtual_interrupt_is_taken_above_v_tpr
                }
                SCOPED_TRACE(testing::Message() << "V_INTR_PRIO " << priority << ", CR8 " << tpr);
                Guest guest(host(), client::Plan{});
                guest.state.gpr[abi::rax] = tpr;
                guest.load(guest_sti_cr8);
                change(guest, vmcb::intercept_1, vmcb::vintr);
                guest.field(vmcb::interrupt_control, 8,
                            vmcb::v_irq | vmcb::v_intr_prio(priority) | vmcb::v_intr_masking |
                                vmcb::v_intr_vector(free_vector) | highest); // V_TPR holds it at first
                const auto r = guest.run({});
                if (priority > tpr) {
                    expect_exit(r, Reason::interrupt_window, layout::code + guest_sti_cr8_end.size());
                } else {
                    expect_stopped(r);
                }
                EXPECT_EQ(r.reply.state.cr8, tpr) << "V_TPR";
                ++tried;
            }
        }
        combinations(tried);
    });
}

} // namespace refhv::front
