// SPDX-License-Identifier: MIT
// What ending an interrupt costs a guest (`ipi.eoi_…`), and setting its task priority (`ipi.tpr_…`): kept
// from exiting by the CPU's virtual APIC (SDM 3C chapter 30), and trapped as without one. Of the rows that
// end interrupts for real a run begins with one in service at every vector from 32 on, and each EOI ends the
// highest: so many rounds and no more.
#include "microbench/measure/row.hpp"
#include "refhv/front/guests/apic_guest.hpp"

namespace refhv::bench {

using abi::Action;
using abi::Mode;
using abi::Reason;
using client::Guest;
namespace apic = front::apic;

namespace {

constexpr apic::Controls shadow{apic::tpr_shadow}, trapped_page{apic::accesses},
    shadow_page{apic::tpr_shadow, apic::accesses}, shadow_msrs{apic::tpr_shadow, apic::x2apic},
    written_page{apic::tpr_shadow, apic::accesses, apic::registers},
    delivered_page{apic::tpr_shadow, apic::accesses, apic::delivery},
    delivered_msrs{apic::tpr_shadow, apic::x2apic, apic::delivery};

constexpr unsigned last_vector = 255, in_service = last_vector + 1 - apic::first_vector;

SAMPLED_GUEST(eoi_msr, "mov $0x80b, %ecx", "xor %eax, %eax\n xor %edx, %edx", "wrmsr")
SAMPLED_GUEST(eoi_store, "mov $" REFHV_ASM(REFHV_APIC_ACCESS) "+0xb0, %esi", "xor %eax, %eax",
              "mov %eax, (%rsi)")
SAMPLED_GUEST(tpr_msr, "mov $0x808, %ecx", "mov $0x20, %eax\n xor %edx, %edx", "wrmsr")
SAMPLED_GUEST(tpr_store, "mov $" REFHV_ASM(REFHV_APIC_ACCESS) "+0x80, %esi", "mov $0x20, %eax",
              "mov %eax, (%rsi)")
SAMPLED_GUEST(tpr_cr8, "mov $2, %esi", "", "mov %rsi, %cr8")

constexpr u8 wrmsr_length = 2, store_length = 2, mov_cr8_length = 4; // of instructions that are stepped over

// A row of a guest whose APIC these controls virtualize.
template <const apic::Controls& controls>
Row apic_row(const char* name, const client::SampledGuest& code, std::vector<std::string> claims) {
    Row row{.name = name, .guest = code};
    row.vendor = abi::Vendor::vmx;
    row.missing = [](const client::HelloInfo& hello) { return apic::lacking(hello, controls); };
    row.arena_pages = apic::arena_pages;
    row.build = [](Mode, Guest& guest) { apic::virtualize(guest, controls); };
    row.rests_on = std::move(claims);
    return row;
}

Row ending(Row row, bool exits) {
    row.most_rounds = in_service;
    row.before_run = [exits](Guest& guest) {
        apic::clear_page(guest);
        for (u32 word = apic::first_vector / 32; word < 8; ++word) {
            apic::put(guest, apic::isr + 16 * word, ~0u);
        }
        apic::put_status(guest, last_vector, 0);
        for (u32 i = 0; i < 4; ++i) {
            guest.field(apic::eoi_exit_bitmap_0 + 2 * i, 8, exits ? ~u64{0} : 0);
        }
    };
    return row;
}

Row exiting(Row row, Reason reason, Action action, u8 length) {
    row.reason = reason;
    row.action = action;
    row.length = length;
    return row;
}

const std::vector<std::string> by_msr{"ApicEoi.vmx_eoi_by_msr_ends_the_highest_and_exits_by_the_bitmap"},
    by_store{"ApicEoi.vmx_eoi_by_store_ends_the_highest_and_exits_by_the_bitmap"};

const Declare eoi_virtualized_msr{
    ending(apic_row<delivered_msrs>("ipi.eoi_virtualized_msr", eoi_msr, by_msr), false)};
const Declare eoi_virtualized_store{
    ending(apic_row<delivered_page>("ipi.eoi_virtualized_store", eoi_store, by_store), false)};
const Declare eoi_exit_bitmap{
    exiting(ending(apic_row<delivered_msrs>("ipi.eoi_exit_bitmap", eoi_msr, by_msr), true),
            Reason::virtualized_eoi, Action::resume, 0)};
const Declare eoi_apic_write{
    exiting(apic_row<written_page>(
                "ipi.eoi_apic_write", eoi_store,
                {"ApicPages.vmx_writes_that_register_virtualization_lists_exit_behind_themselves"}),
            Reason::apic_write, Action::resume, 0)};
const Declare eoi_apic_access{
    exiting(apic_row<trapped_page>("ipi.eoi_apic_access", eoi_store,
                                   {"ApicPages.vmx_every_access_exits_without_a_tpr_shadow"}),
            Reason::apic_access, Action::advance, store_length)};
const Declare eoi_trapped_msr{{.name = "ipi.eoi_trapped_msr",
                               .claims_about = "wrmsr",
                               .guest = eoi_msr,
                               .reason = Reason::wrmsr,
                               .length = wrmsr_length}};
const Declare eoi_trapped_store{
    {.name = "ipi.eoi_trapped_store",
     .claims_about = "nested_violation",
     .guest = eoi_store,
     .reason = Reason::nested_violation,
     .length = store_length,
     .arena_pages = apic::arena_pages,
     .build = [](Mode, Guest& guest) { guest.protect(apic::access_page, 1, 0); }}};

const Declare tpr_shadowed{apic_row<shadow>(
    "ipi.tpr_cr8_shadowed", tpr_cr8, {"IntrTpr.vmx_mov_to_cr8_exits_behind_itself_below_the_threshold"})};
// SVM: under V_INTR_MASKING CR8 is V_TPR (APM 2 15.21.2).
const Declare tpr_v_tpr{{.name = "ipi.tpr_cr8_v_tpr",
                         .claims_about = "mov_to_cr8",
                         .guest = tpr_cr8,
                         .vendor = abi::Vendor::svm}};
const Declare tpr_trapped{{.name = "ipi.tpr_cr8_trapped",
                           .claims_about = "mov_to_cr8",
                           .guest = tpr_cr8,
                           .reason = Reason::cr8_write,
                           .intercepts = client::on(abi::Intercept::cr8_write),
                           .length = mov_cr8_length}};
const Declare tpr_virtualized_msr{
    apic_row<shadow_msrs>("ipi.tpr_virtualized_msr", tpr_msr,
                          {"ApicX2apic.vmx_wrmsr_of_the_tpr_exits_behind_itself_below_the_threshold"})};
const Declare tpr_virtualized_store{
    apic_row<shadow_page>("ipi.tpr_virtualized_store", tpr_store,
                          {"ApicPages.vmx_writes_of_the_tpr_alone_are_virtualized_by_a_tpr_shadow"})};

} // namespace

} // namespace refhv::bench
