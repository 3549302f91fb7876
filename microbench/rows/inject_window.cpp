// SPDX-License-Identifier: MIT
// Injection into a guest that is not open for the event when the host has it: CPUID exits, then the guest
// opens. `inject.window`: the core asks for the interrupt window and injects at the exit that it makes.
// `inject.v_irq` (SVM) and `inject.virtual` (VMX): the CPU keeps the interrupt and delivers it by itself, so
// the guest is the same and the second exit is saved. `inject.nmi_window`: the guest is in an NMI handler,
// and its IRET opens it. What the guest executes until it is open (STI and a NOP; IRET) is in all of them.
#include "microbench/rows/inject_guest.hpp"
#include "refhv/front/guests/apic_guest.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;
namespace apic = front::apic;
namespace vmcs = front::vmcs;

namespace {

constexpr u32 when_open = static_cast<u32>(abi::Delivery::when_open) << 12,
              virtually = static_cast<u32>(abi::Delivery::virtually) << 12;
constexpr u32 interrupt_vector = 0x51, nmi = 2 << 8 | 2;

TO_HANDLER(opens, "cli\n" REFHV_DROP_FRAME "xor %eax, %eax", "cpuid\n sti\n nop\n int3")
SAMPLED_GUEST(opens_and_back, "", "cli\n xor %eax, %eax", "cpuid\n sti\n nop\n int3")

// On VMX a delivered interrupt stays in service until its EOI, which the next round begins with.
#define END_THE_LAST "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
TO_HANDLER(opens_eoi, "cli\n" REFHV_DROP_FRAME END_THE_LAST, "cpuid\n sti\n nop\n int3")
SAMPLED_GUEST(opens_eoi_and_back, "", "cli\n" END_THE_LAST, "cpuid\n sti\n nop\n int3")

// The handler that the NMI came to has not returned: NMIs are blocked, until IRET jumps to label 5.
#define FRAME_OF_5                                                                                           \
    REFHV_DROP_FRAME "mov %ss, %eax\n push %rax\n lea 8(%rsp), %rax\n push %rax\n pushf\n mov %cs, %eax\n"   \
                     "push %rax\n lea 5f(%rip), %rax\n push %rax\n xor %eax, %eax"
GUEST(unblocks_operation, REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", FRAME_OF_5, "cpuid\n iretq\n 5: int3\n 6:"))
GUEST(unblocks_control, REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", FRAME_OF_5, "jmp 6f\n 5: int3\n 6:"))
constexpr client::SampledGuest unblocks{unblocks_operation, unblocks_control};

Row window_row(const char* name, const client::SampledGuest& code, client::GuestCode handler) {
    Row row = delivering_row(name, when_open | interrupt_vector, code, handler,
                             {"InjectMeans.interrupt_waits_until_the_guest_is_open"});
    row.second = Reason::interrupt_window;
    return row;
}

Row v_irq_row(const char* name, const client::SampledGuest& code, client::GuestCode handler) {
    Row row = delivering_row(name, virtually | interrupt_vector, code, handler,
                             {"InjectMeans.virtual_interrupt_comes_without_another_exit"});
    row.vendor = abi::Vendor::svm;
    return row;
}

constexpr apic::Controls with_x2apic{apic::tpr_shadow, apic::x2apic, apic::delivery};

Row virtual_row(const char* name, const client::SampledGuest& code, client::GuestCode handler) {
    Row row = v_irq_row(name, code, handler);
    row.vendor = abi::Vendor::vmx;
    row.missing = [](const client::HelloInfo& hello) { return apic::lacking(hello, with_x2apic); };
    row.arena_pages = apic::arena_pages;
    row.rests_on.emplace_back("ApicEoi.vmx_eoi_by_msr_ends_the_highest_and_exits_by_the_bitmap");
    row.build = [handler](Mode, Guest& guest) {
        take_at_handler(guest, interrupt_vector, handler);
        apic::virtualize(guest, with_x2apic);
    };
    return row;
}

Row nmi_row() {
    Row row = delivering_row("inject.nmi_window", when_open | nmi, unblocks, handler_goes_on,
                             {"InjectMeans.vmx_nmi_waits_until_nmis_are_unblocked"});
    row.vendor = abi::Vendor::vmx;
    row.second = Reason::nmi_window;
    row.build = [](Mode, Guest& guest) {
        take_at_handler(guest, nmi & 0xff, handler_goes_on);
        front::change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
    };
    row.before_run = [](Guest& guest) { guest.field(vmcs::interruptibility, 4, vmcs::blocking_by_nmi); };
    row.missing = [](const client::HelloInfo& hello) -> std::string {
        const bool offered = front::offers(hello, vmcs::pin_controls, vmcs::pin_virtual_nmis) &&
                             front::offers(hello, vmcs::proc_controls, vmcs::proc_nmi_window);
        return offered ? ""
                       : "no virtual NMIs and NMI-window exiting (IA32_VMX_PINBASED_CTLS[37], "
                         "IA32_VMX_PROCBASED_CTLS[54])";
    };
    return row;
}

const Declare window{window_row("inject.window", opens, handler_goes_on)};
const Declare window_iret{window_row("inject.window_iret", opens_and_back, handler_returns)};
const Declare v_irq{v_irq_row("inject.v_irq", opens, handler_goes_on)};
const Declare v_irq_iret{v_irq_row("inject.v_irq_iret", opens_and_back, handler_returns)};
const Declare by_cpu{virtual_row("inject.virtual", opens_eoi, handler_goes_on)};
const Declare by_cpu_iret{virtual_row("inject.virtual_iret", opens_eoi_and_back, handler_returns)};
const Declare nmi_window{nmi_row()};

} // namespace

} // namespace refhv::bench
