// SPDX-License-Identifier: MIT
// Virtual-interrupt delivery (VMX, SDM 3C 30.2) as a means of injection. `inject.self_ipi`: the guest
// requests the interrupt itself, by a WRMSR of 83FH that the CPU virtualizes; nothing exits. Every round
// begins with the EOI of the last, in the control too. `inject.self_ipi_trapped` is the same IPI as a
// hypervisor without that sends it, on both vendors: the WRMSR exits, the entry delivers.
#include "microbench/rows/inject_guest.hpp"
#include "refhv/front/guests/apic_guest.hpp"

namespace refhv::bench {

using abi::Mode;
using client::Guest;
namespace apic = front::apic;

namespace {

constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::delivery};
constexpr u32 virtual_vector = 0x51;

#define END_THE_LAST "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
#define REQUEST "mov $0x83f, %ecx\n mov $0x51, %eax\n xor %edx, %edx"
TO_HANDLER(self_ipi, "sti\n" REFHV_DROP_FRAME END_THE_LAST REQUEST, "wrmsr\n int3")
SAMPLED_GUEST(self_ipi_and_back, "sti", END_THE_LAST REQUEST, "wrmsr\n int3")

Row virtual_row(const char* name, const client::SampledGuest& code, client::GuestCode handler) {
    Row row{.name = name, .guest = code};
    row.vendor = abi::Vendor::vmx;
    row.missing = [](const client::HelloInfo& hello) { return apic::lacking(hello, needed); };
    row.arena_pages = apic::arena_pages;
    row.build = [handler](Mode, Guest& guest) {
        apic::virtualize(guest, needed);
        take_at_handler(guest, virtual_vector, handler);
    };
    row.rests_on = {"ApicModel.vmx_random_steps_by_msr_leave_what_the_model_says"};
    return row;
}

TO_HANDLER(trapped, "sti\n" REFHV_DROP_FRAME REQUEST, "wrmsr\n int3")
SAMPLED_GUEST(trapped_and_back, "sti", REQUEST, "wrmsr\n int3")

Row trapped_row(const char* name, const client::SampledGuest& code, client::GuestCode handler) {
    Row row = delivering_row(name, virtual_vector, code, handler,
                             {"Inject.external_interrupts_of_any_vector_arrive_and_clear_if"});
    row.claims_about = "wrmsr";
    row.reason = abi::Reason::wrmsr;
    row.intercepts = 0;
    return row;
}

const Declare self_ipi_row{virtual_row("inject.self_ipi", self_ipi, handler_goes_on)};
const Declare self_ipi_trapped{trapped_row("inject.self_ipi_trapped", trapped, handler_goes_on)};
const Declare self_ipi_iret{virtual_row("inject.self_ipi_iret", self_ipi_and_back, handler_returns)};
const Declare self_ipi_trapped_iret{
    trapped_row("inject.self_ipi_trapped_iret", trapped_and_back, handler_returns)};

} // namespace

} // namespace refhv::bench
