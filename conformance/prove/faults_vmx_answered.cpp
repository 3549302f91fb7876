// SPDX-License-Identifier: MIT
// Seeded faults of VMX: what an exit or a refused entry says of itself, and fields that it leaves wrong.
// Basic exit reasons: SDM 3D appendix C. Qualifications: SDM 3C 28.2.1.
#include "conformance/prove/fault_kinds.hpp"
#include "conformance/prove/fault_tables.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front::faults {

namespace {

using abi::Exit;
using abi::GuestState;

constexpr u64 error_valid = 1u << 11, nmi_unblocking = 1u << 12;

const Fault rows[] = {
    // Qualification and the addresses beside it
    {"I/O: the direction is wrong", "ExitTable.*:Exit.*", {.exit = exit_flips<30, &Exit::qualification, 8>}},
    {"I/O: the size is off by one", "ExitTable.*:Exit.*", {.exit = exit_flips<30, &Exit::qualification, 1>}},
    {"I/O: string is lost", "ExitTable.*:Exit.*", {.exit = exit_loses<30, &Exit::qualification, 0x10>}},
    {"I/O: REP is lost", "ExitTable.*:Exit.*", {.exit = exit_loses<30, &Exit::qualification, 0x20>}},
    {"I/O: the encoding is lost", "ExitTable.*:Exit.*", {.exit = exit_loses<30, &Exit::qualification, 0x40>}},
    {"I/O: the port is that of the byte behind",
     "ExitTable.*",
     {.exit = exit_flips<30, &Exit::qualification, 0x1'0000>}},
    {"string I/O: the guest-linear address is lost",
     "ExitTable.*",
     {.exit = exit_loses<30, &Exit::guest_linear, all>}},
    {"string I/O: the segment is DS",
     "ExitTable.*",
     {.exit =
          [](Exit& e) {
              if (e.raw_reason == 30) {
                  e.info = (e.info & ~u64{7u << 15}) | 3u << 15;
              }
          }}},
    {"MOV CR: the register number is wrong",
     "ExitTable.*",
     {.exit = exit_loses<28, &Exit::qualification, 0xf00>}},
    {"MOV CR: R8 to R15 are RAX to RDI",
     "ExitTable.*",
     {.exit = exit_loses<28, &Exit::qualification, 0x800>}},
    {"MOV CR: the access type is wrong", "ExitTable.*", {.exit = exit_flips<28, &Exit::qualification, 0x10>}},
    {"LMSW: its source is lost", "ExitTable.*", {.exit = exit_loses<28, &Exit::qualification, 0xffff'0000>}},
    {"MOV DR: the direction is wrong",
     "ExitTable.*:Exit.*",
     {.exit = exit_flips<29, &Exit::qualification, 0x10>}},
    {"MOV DR: the debug register is wrong",
     "ExitTable.*:Exit.*",
     {.exit = exit_flips<29, &Exit::qualification, 1>}},
    {"INVLPG: the address is a page", "Exit*.*", {.exit = exit_loses<14, &Exit::qualification, 0xfff>}},
    {"task switch: the source is lost",
     "ExitTable.*",
     {.exit = exit_loses<9, &Exit::qualification, 0xc000'0000>}},
    {"task switch: the selector is lost",
     "ExitTable.*",
     {.exit = exit_loses<9, &Exit::qualification, 0xffff>}},
    {"LGDT: the displacement is lost", "ExitTable.*", {.exit = exit_loses<46, &Exit::qualification, all>}},
    {"LGDT: the base register is wrong", "ExitTable.*", {.exit = exit_flips<46, &Exit::info, 1u << 23>}},
    {"LLDT: the identity is wrong", "ExitTable.*", {.exit = exit_flips<47, &Exit::info, 1u << 28>}},
    {"VMREAD: the second register is wrong", "ExitTable.*", {.exit = exit_flips<23, &Exit::info, 1u << 28>}},
    {"EPT violation: read and write are swapped",
     "Nested*.*:Ept*.*:Exit.*",
     {.exit = exit_flips<48, &Exit::qualification, 3>}},
    {"EPT violation: fetch is lost",
     "Nested*.*:Ept*.*:Exit.*",
     {.exit = exit_loses<48, &Exit::qualification, 4>}},
    {"EPT violation: the rights are lost",
     "Nested*.*:Ept*.*",
     {.exit = exit_loses<48, &Exit::qualification, 0x38>}},
    {"EPT violation: GLA is not valid",
     "Nested*.*:Ept*.*",
     {.exit = exit_loses<48, &Exit::qualification, 0x80>}},
    {"EPT violation: a walk is the access itself",
     "Nested*.*:Ept*.*",
     {.exit = exit_flips<48, &Exit::qualification, 0x100>}},
    {"EPT violation: the physical address is a page",
     "Nested*.*:Ept*.*:Exit.*",
     {.exit = exit_loses<48, &Exit::guest_physical, 0xfff>}},
    {"EPT violation: the linear address is off",
     "Nested*.*:Ept*.*",
     {.exit = exit_flips<48, &Exit::guest_linear, 1>}},
    {"EPT misconfiguration: the address is lost",
     "EptMisconfig.*",
     {.exit = exit_loses<49, &Exit::guest_physical, all>}},
    {"#PF: the address loses its offset",
     "Exit*.*:Debug*.*",
     {.exit =
          [](Exit& e) {
              if (e.raw_reason == 0 && e.vector == 14) {
                  e.qualification &= ~u64{0xfff};
              }
          }}},
    {"#DB: B0 to B3 are lost",
     "Debug*.*:IntrDebug.*",
     {.exit =
          [](Exit& e) {
              if (e.raw_reason == 0 && e.vector == 1) {
                  e.qualification &= ~u64{15};
              }
          }}},
    {"#DB: BS is lost",
     "Debug*.*:Intr*.*",
     {.exit =
          [](Exit& e) {
              if (e.raw_reason == 0 && e.vector == 1) {
                  e.qualification &= ~u64{1u << 14};
              }
          }}},
    {"APIC access: the offset is 0", "ApicPages.*", {.exit = exit_loses<44, &Exit::qualification, 0xfff>}},
    {"APIC access: the type is a read",
     "ApicPages.*",
     {.exit = exit_loses<44, &Exit::qualification, 0xf000>}},
    {"APIC write: the offset is 0",
     "ApicPages.*:ApicEoi.*:ApicX2apic.*",
     {.exit = exit_loses<56, &Exit::qualification, all>}},
    {"virtualized EOI: the vector is wrong",
     "ApicEoi.*:ApicModel.*",
     {.exit = exit_flips<45, &Exit::qualification, 1>}},
    {"SIPI: the vector is lost", "PeerSignals.*", {.exit = exit_loses<4, &Exit::qualification, all>}},

    // Events
    {"exception: valid error code is lost",
     "Exit*.*:GuestMode.*",
     {.exit = exit_loses<0, &Exit::interruption_info, error_valid>}},
    {"exception: the error code is 0",
     "Exit*.*:GuestMode.*",
     {.exit = exit_loses<0, &Exit::interruption_error, all>}},
    {"exception: INT3 is a hardware exception",
     "Exit*.*:GuestMode.*",
     {.exit =
          [](Exit& e) {
              if (e.raw_reason == 0 && (e.interruption_info & 0x700) == 0x600) {
                  e.interruption_info ^= 0x500;
              }
          }}},
    {"exception: NMI unblocking is lost",
     "IntrNmi.*",
     {.exit = exit_loses<0, &Exit::interruption_info, nmi_unblocking>}},
    {"EPT violation: the event under way is lost",
     "Inject*.*:Nested*.*:GuestMode.*",
     {.exit = exit_loses<48, &Exit::vectoring, all>}},
    {"exception: the event under way is lost", "Inject*.*", {.exit = exit_loses<0, &Exit::vectoring, all>}},
    {"task switch: the event under way is lost",
     "ExitTable.*",
     {.exit = exit_loses<9, &Exit::vectoring, all>}},
    {"double fault: it names an event",
     "InjectAgain.*",
     {.exit = [](Exit& e) { e.vectoring |= 0x8000'0306; }}},

    // Lengths and RIP
    {"CPUID: length off by one", "Exit.cpuid_*", {.exit = exit_one_more<10, &Exit::instruction_length>}},
    {"HLT: length off by one", "Exit.hlt_*", {.exit = exit_one_more<12, &Exit::instruction_length>}},
    {"MOV CR: length off by one",
     "ExitTable.*:Exit.*",
     {.exit = exit_one_more<28, &Exit::instruction_length>}},
    {"I/O: length off by one", "ExitTable.*:Exit.*", {.exit = exit_one_more<30, &Exit::instruction_length>}},
    {"WRMSR: length off by one",
     "ExitTable.*:Exit.*",
     {.exit = exit_one_more<32, &Exit::instruction_length>}},
    {"INT3: length off by one", "Exit*.*:GuestMode.*", {.exit = exit_one_more<0, &Exit::instruction_length>}},
    {"preemption timer: RIP is behind",
     "TimerPreemption.*:IntrPriority.*",
     {.end = state_flips<52, &GuestState::rip, 1>}},
    {"monitor trap: RIP is behind", "DebugMonitorTrap.*", {.end = state_flips<37, &GuestState::rip, 1>}},
    {"interrupt window: RIP is behind", "IntrWindow.*", {.end = state_flips<7, &GuestState::rip, 1>}},

    // Fields that are read
    {"pending debug exceptions are not saved", "Debug*.*:IntrDebug.*", {.read = loses<vmcs::pending_debug>}},
    {"blocking by STI is not saved",
     "Intr*.*:Debug*.*:ExitSaves.*:Timer*.*",
     {.read = loses<vmcs::interruptibility, vmcs::blocking_by_sti>}},
    {"blocking by MOV SS is not saved",
     "Intr*.*:Debug*.*:ExitSaves.*:Timer*.*",
     {.read = loses<vmcs::interruptibility, vmcs::blocking_by_mov_ss>}},
    {"blocking by NMI is not saved",
     "IntrNmi.*:Timer*.*",
     {.read = loses<vmcs::interruptibility, vmcs::blocking_by_nmi>}},
    {"the activity state is saved as active",
     "IntrActivity.*:TimerPreemption.*",
     {.read = loses<vmcs::activity>}},
    {"the injected event stays valid",
     "ExitSaves.*:Inject*.*:Entry*.*",
     {.read = loses<vmcs::entry_interruption_info, 0, 1u << 31>}},
    {"RVI is not updated", "Apic*.*", {.read = flips<0x0810, 0xff>}},
    {"SVI is not updated", "Apic*.*", {.read = flips<0x0810, 0xff00>}},
    {"the PML index is off by one", "EptLog.*", {.read = flips<vmcs::pml_index, 1>}},
    {"the preemption timer is saved as 1", "TimerPreemption.*", {.read = loses<0x482e, all, 1>}},
    {"DEBUGCTL is saved as 0", "Debug*.*:ExitSaves.*", {.read = loses<vmcs::guest_debugctl>}},
    {"the entry controls lose IA-32e mode",
     "GuestMode.*:ExitSaves.*:Entry*.*",
     {.read = loses<vmcs::entry_controls, 1u << 9>}},

    // Nested tables
    {"EPT: D is not set",
     "EptDirty.*",
     {.nested = [](abi::NestedEntryReply& r) { r.entry &= ~u64{1u << 9}; }}},
    {"EPT: A is not set",
     "EptDirty.*",
     {.nested = [](abi::NestedEntryReply& r) { r.entry &= ~u64{1u << 8}; }}},
    {"INVVPID of a context drops another's",
     "Tlb*.*:VmxInvalidate.*",
     {.invalidate =
          [](abi::Invalidate& i) {
              if (i.kind >= static_cast<u16>(abi::Invalidation::vpid_single)) {
                  i.kind = static_cast<u16>(abi::Invalidation::vpid_address);
                  i.address = u64{1} << 40;
              }
          }}},

    // Refused entries
    {"entry: host state is error 7",
     "Entry*.*",
     {.probe =
          [](abi::ProbeResult& r) {
              if (r.refusal == 8) {
                  r.refusal = 7;
              }
          }}},
    {"entry: the link pointer's qualification is 0",
     "Entry*.*",
     {.probe =
          [](abi::ProbeResult& r) {
              if (r.entry_failure == 33 && r.qualification == 4) {
                  r.qualification = 0;
              }
          }}},
    {"entry: bit 31 of the reason is lost",
     "Entry*.*",
     {.probe = [](abi::ProbeResult& r) { r.raw_reason &= ~u64{1u << 31}; }}},
};

} // namespace

std::span<const Fault> vmx_answered() {
    return rows;
}

} // namespace refhv::front::faults
