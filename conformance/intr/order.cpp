// SPDX-License-Identifier: MIT
// What an interrupt that is let in comes before and behind, in the guest's own instructions: VMX's interrupt
// window and SVM's VINTR intercept alike.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

#define OPENS "sti\n nop\n" // the first boundary with IF = 1 and no shadow is behind NOP
GUEST(guest_opens, OPENS)
GUEST(guest_opens_before_ud2, OPENS "ud2")
GUEST(guest_opens_before_load, OPENS "mov " REFHV_ASM(REFHV_UNMAPPED) ", %eax")
GUEST(guest_opens_before_cpuid, OPENS "cpuid")
GUEST(guest_opens_before_hlt, OPENS "hlt")
GUEST(guest_opens_before_nop, OPENS "nop\n nop")

// IRET is executed with TF = 1 and sets IF: behind it a trap of its own and the interrupt are both due.
#define STEPPED_IRET                                                                                         \
    "lea 9f(%rip), %rax\n mov %rsp, %rbx\n push $0x10\n push %rbx\n push $0x202\n push $8\n push %rax\n"     \
    "pushf\n orl $0x100, (%rsp)\n popf\n iretq\n 9:"
GUEST(guest_stepped_iret, STEPPED_IRET "nop\n nop")
GUEST(guest_stepped_iret_end, STEPPED_IRET)

constexpr u32 debug_vector = 1, invalid_opcode = 6, page_fault = 14;
constexpr u64 single_step = 1u << 14, execute_breakpoint_0 = 0x402; // G0, DR7's bit 10
constexpr u64 highest_priority = 15;

} // namespace

class IntrOrder : public Intr {
  protected:
    // An interrupt waits from the entry on, and exits once the guest is open for it.
    static void pend(Guest& guest) {
        if (on_vmx()) {
            change(guest, vmcs::proc_controls, vmcs::proc_interrupt_window);
            return;
        }
        change(guest, vmcb::intercept_1, vmcb::vintr);
        guest.field(vmcb::interrupt_control, 8,
                    vmcb::v_irq | vmcb::v_intr_prio(highest_priority) | vmcb::v_intr_masking |
                        vmcb::v_intr_vector(free_vector));
    }
    static client::Plan intercepting(u32 exceptions, u64 intercepts = 0) {
        client::Plan plan;
        plan.exceptions = exceptions;
        plan.intercepts = intercepts;
        return plan;
    }
    static void expect_interrupt_first(Guest& guest) {
        pend(guest);
        const auto r = guest.run({});
        expect_exit(r, Reason::interrupt_window, code + guest_opens.size());
        EXPECT_EQ(r.exceptions.count, 0u);
    }
};

TEST_F(IntrOrder, interrupt_goes_before_a_fault_of_the_next_instruction) {
    claim({"SDM 3A 6.9", "APM 2 8.5"}, [&] {
        for (const auto& [what, vector] :
             {std::pair{guest_opens_before_ud2, invalid_opcode}, {guest_opens_before_load, page_fault}}) {
            for (const bool intercepted : {false, true}) {
                SCOPED_TRACE(testing::Message() << "vector " << vector << ", intercepted " << intercepted);
                Guest guest(host(), intercepting(intercepted ? 1u << vector : 0));
                guest.load(what);
                expect_interrupt_first(guest);
            }
        }
        combinations(4);
    });
}

TEST_F(IntrOrder, interrupt_goes_before_an_intercepted_instruction) {
    claim({"SDM 3C 26.1.1; SDM 3A 6.9", "APM 2 15.7.1, 8.5"}, [&] {
        for (const auto& what : {guest_opens_before_cpuid, guest_opens_before_hlt}) {
            Guest guest(host(), intercepting(0, client::on(abi::Intercept::cpuid, abi::Intercept::hlt)));
            guest.load(what);
            expect_interrupt_first(guest);
        }
        combinations(2);
    });
}

TEST_F(IntrOrder, interrupt_goes_before_an_instruction_breakpoint) {
    claim({"SDM 3A 6.9", "APM 2 8.5"}, [&] {
        Guest guest(host(), intercepting(1u << debug_vector));
        guest.load(guest_opens_before_nop);
        guest.state.dr[0] = code + guest_opens.size();
        guest.state.dr7 = execute_breakpoint_0;
        expect_interrupt_first(guest);
    });
}

TEST_F(IntrOrder, single_step_trap_goes_before_an_interrupt) {
    claim({"SDM 3A 6.9", "APM 2 8.5"}, [&] {
        Guest guest(host(), intercepting(1u << debug_vector));
        guest.load(guest_stepped_iret);
        pend(guest);
        const auto r = guest.run({});
        expect_exit(r, Reason::exception, code + guest_stepped_iret_end.size());
        EXPECT_EQ(r.reply.exit.vector, debug_vector);
        if (on_vmx()) {
            EXPECT_EQ(r.reply.exit.qualification & single_step, single_step);
        }
    });
}

} // namespace refhv::front
