// SPDX-License-Identifier: MIT
// Seeded faults of SVM: fields of the VMCB that VMRUN does not heed, checks that it leaves out, and what
// #VMEXIT says wrong. Offsets and exit codes: APM 2 appendices B and C.
#include "conformance/prove/fault_kinds.hpp"
#include "conformance/prove/fault_tables.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front::faults {

namespace {

using abi::Exit;
using abi::GuestState;

constexpr const char* entries = "Entry*.svm_*";
constexpr u64 io = 0x7b, msr = 0x7c, nested = 0x400, page_fault = 0x4e, vintr = 0x64;

const Fault rows[] = {
    // Fields that are not heeded
    {"V_IRQ is ignored", "IntrVirtual.*:Exit.svm_*", {.write = loses<vmcb::interrupt_control, vmcb::v_irq>}},
    {"V_IGN_TPR is ignored", "IntrVirtual.*", {.write = loses<vmcb::interrupt_control, vmcb::v_ign_tpr>}},
    {"V_TPR is ignored", "IntrVirtual.*:IntrTpr.*", {.write = loses<vmcb::interrupt_control, 0xff>}},
    {"V_INTR_PRIO is ignored", "IntrVirtual.*", {.write = loses<vmcb::interrupt_control, 0xf'0000>}},
    {"V_INTR_VECTOR is off by one",
     "IntrVirtual.*",
     {.write = [](u32 f,
                  u64 v) { return f == vmcb::interrupt_control && v >> 32 != 0 ? v ^ u64 { 1 } << 32 : v; }}},
    {"the interrupt shadow is not loaded", "Intr*.*", {.write = loses<vmcb::interrupt_shadow, 1>}},
    {"an injected event is lost",
     "Inject*.*",
     {.write = of_valid_event<vmcb::event_injection, u64{1} << 31>}},
    {"an injected error code is not pushed",
     "Inject*.*",
     {.write = of_valid_event<vmcb::event_injection, 1u << 11>}},
    {"an injected error code is 0",
     "Inject*.*",
     {.write = of_valid_event<vmcb::event_injection, 0xffff'ffff'0000'0000>}},
    {"an injected NMI is an interrupt",
     "Inject*.*",
     {.write =
          [](u32 f, u64 v) {
              return f == vmcb::event_injection && (v & 0x700) == 0x200 ? v & ~u64{0x700} : v;
          }}},
    {"the VINTR intercept is ignored", "Intr*.*", {.write = loses<vmcb::intercept_1, vmcb::vintr>}},
    {"the IRET intercept is ignored",
     "ExitTable.*:GuestMode.*:Intr*.*",
     {.write = loses<vmcb::intercept_1, vmcb::iret>}},
    {"the intercept of stores of the IDTR is ignored",
     "ExitTable.*:GuestMode.*",
     {.write = loses<vmcb::intercept_1, 1u << 6>}},
    {"the CR4 write intercept is ignored",
     "ExitTable.*:GuestMode.*",
     {.write =
          [](u32 f, u64 v) {
              return f == vmcb::cr_write ? v & ~u64{1u << 4} : f == 0 ? v & ~u64{1u << 20} : v;
          }}},
    {"the DR7 write intercept is ignored",
     "ExitTable.*:GuestMode.*",
     {.write =
          [](u32 f, u64 v) {
              return f == vmcb::dr_write ? v & ~u64{1u << 7} : f == 4 ? v & ~u64{1u << 23} : v;
          }}},
    {"the TSC offset is ignored", "TimerTsc.*", {.write = loses<vmcb::tsc_offset>}},
    {"the guest's MSR map is another page", "ExitTable.*", {.write = flips<vmcb::msrpm, 0x1000>}},
    {"the guest's I/O map is another page", "ExitTable.*", {.write = flips<vmcb::iopm, 0x1000>}},

    // Checks of VMRUN that are left out (APM 2 15.5.1)
    {"VMRUN: ASID 0",
     entries,
     {.write = [](u32 f, u64 v) { return f == 0x58 && (v & 0xffff'ffff) == 0 ? v | 1 : v; }}},
    {"VMRUN: the VMRUN intercept", entries, {.write = loses<vmcb::intercept_2, 0, 1>}},
    {"VMRUN: upper half of CR0", entries, {.write = loses<0x558, 0xffff'ffff'0000'0000>}},
    {"VMRUN: upper half of DR6", entries, {.write = loses<0x568, 0xffff'ffff'0000'0000>}},
    {"VMRUN: upper half of DR7", entries, {.write = loses<0x560, 0xffff'ffff'0000'0000>}},
    {"VMRUN: EFER.SVME", entries, {.write = loses<0x4d0, 0, 1u << 12>}},
    {"VMRUN: reserved bits of EFER", entries, {.write = loses<0x4d0, ~u64{0xfd01}>}},
    {"VMRUN: reserved bits of CR4", entries, {.write = loses<0x548, 0xffff'ffff'0000'0000>}},
    {"VMRUN: the type of the injected event",
     entries,
     {.write =
          [](u32 f, u64 v) {
              return f == vmcb::event_injection && (v & 0x700) == 0x100 ? v & ~u64{0x700} : v;
          }}},

    // What #VMEXIT says
    {"I/O: the direction is wrong", "ExitTable.*:Exit.*", {.exit = exit_flips<io, &Exit::qualification, 1>}},
    {"I/O: string is lost", "ExitTable.*:Exit.*", {.exit = exit_loses<io, &Exit::qualification, 4>}},
    {"I/O: REP is lost", "ExitTable.*:Exit.*", {.exit = exit_loses<io, &Exit::qualification, 8>}},
    {"I/O: the size is lost", "ExitTable.*:Exit.*", {.exit = exit_loses<io, &Exit::qualification, 0x70>}},
    {"I/O: the address size is lost",
     "ExitTable.*:Exit.*",
     {.exit = exit_loses<io, &Exit::qualification, 0x380>}},
    {"I/O: the port is another",
     "ExitTable.*:Exit.*",
     {.exit = exit_flips<io, &Exit::qualification, 0x1'0000>}},
    {"I/O: EXITINFO2 is the RIP of the instruction",
     "ExitTable.*:Exit.*",
     {.exit = exit_flips<io, &Exit::info, 1>}},
    {"MSR: a write is a read", "ExitTable.*:Exit.*", {.exit = exit_loses<msr, &Exit::qualification, 1>}},
    {"#PF: the error code is 0",
     "Exit*.*:Paging*.*",
     {.exit = exit_loses<page_fault, &Exit::qualification, all>}},
    {"#PF: the address loses its offset",
     "Exit*.*:Paging*.*",
     {.exit = exit_loses<page_fault, &Exit::info, 0xfff>}},
    {"nested fault: present is lost",
     "Npt*.*:Nested*.*:Exit.*",
     {.exit = exit_flips<nested, &Exit::qualification, 1>}},
    {"nested fault: write is lost",
     "Npt*.*:Nested*.*:Exit.*",
     {.exit = exit_loses<nested, &Exit::qualification, 2>}},
    {"nested fault: user is lost",
     "Npt*.*:Nested*.*:Exit.*",
     {.exit = exit_loses<nested, &Exit::qualification, 4>}},
    {"nested fault: reserved is lost",
     "Npt*.*:Nested*.*",
     {.exit = exit_loses<nested, &Exit::qualification, 8>}},
    {"nested fault: fetch is lost",
     "Npt*.*:Nested*.*:Exit.*",
     {.exit = exit_loses<nested, &Exit::qualification, 0x10>}},
    {"nested fault: final and walk are swapped",
     "Npt*.*:Nested*.*",
     {.exit = exit_flips<nested, &Exit::qualification, u64{3} << 32>}},
    {"nested fault: the address is a page",
     "Npt*.*:Nested*.*:Exit.*",
     {.exit = exit_loses<nested, &Exit::guest_physical, 0xfff>}},
    {"EXITINTINFO is lost", "Inject*.*", {.exit = [](Exit& e) { e.vectoring = 0; }}},
    {"EXITINTINFO names an event too many", "Exit.*", {.exit = [](Exit& e) { e.vectoring |= 0x8000'0306; }}},
    {"the next RIP is off by one",
     "Exit.*:ExitTable.*",
     {.exit =
          [](Exit& e) {
              ++e.next_rip;
              ++e.instruction_length;
          }}},
    {"VINTR: RIP is behind", "Intr*.*", {.end = state_flips<vintr, &GuestState::rip, 1>}},

    // Fields that are read
    {"V_IRQ stays when its interrupt was taken",
     "IntrVirtual.*",
     {.read = loses<vmcb::interrupt_control, 0, vmcb::v_irq>}},
    {"V_TPR is not saved", "IntrTpr.*:IntrVirtual.*", {.read = loses<vmcb::interrupt_control, 0xff>}},
    {"the interrupt shadow is not saved",
     "Intr*.*:ExitSaves.*:Debug*.*",
     {.read = loses<vmcb::interrupt_shadow, 1>}},
    {"EVENTINJ stays valid",
     "Inject*.*:ExitSaves.*:Entry*.*",
     {.read = loses<vmcb::event_injection, 0, u64{1} << 31>}},

    // Refused entries
    {"VMRUN: refused as an exit",
     "Entry*.*",
     {.probe =
          [](abi::ProbeResult& r) {
              if (r.raw_reason == ~u64{0}) {
                  r.raw_reason = 0xffff'ffff;
              }
          }}},
    {"NPT: D is not set",
     "Npt*.*:Nested*.*",
     {.nested = [](abi::NestedEntryReply& r) { r.entry &= ~u64{1u << 6}; }}},
    {"NPT: A is not set",
     "Npt*.*:Nested*.*",
     {.nested = [](abi::NestedEntryReply& r) { r.entry &= ~u64{1u << 5}; }}},
};

} // namespace

std::span<const Fault> svm() {
    return rows;
}

} // namespace refhv::front::faults
