// SPDX-License-Identifier: MIT
// Seeded faults of VMX: controls, guest state and events that the CPU does not heed, checks of an entry that
// it leaves out, and some that are too strict. Fields: SDM 3D appendix B.
#include "conformance/prove/fault_kinds.hpp"
#include "conformance/prove/fault_tables.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front::faults {

namespace {

constexpr const char* entries = "Entry*.vmx_*";

// What an entry checks: the access rights of ES to TR, but for the unusable bit.
template <u64 lost>
u64 rights_lose(u32 f, u64 value) {
    return f >= 0x4814 && f <= 0x4822 && f % 2 == 0 ? value & ~lost : value;
}
// Addresses that need not be canonical.
template <u32 first, u32 last>
u64 made_canonical(u32 f, u64 value) {
    return f >= first && f <= last ? static_cast<u64>(static_cast<i64>(value << 16) >> 16) : value;
}
template <u32 field, u64 from, u64 to>
u64 replaces(u32 f, u64 value) {
    return f == field && value == from ? to : value;
}

const Fault rows[] = {
    // Controls
    {"interrupt-window exiting is ignored",
     "IntrWindow.*:IntrWaiting.*:IntrActivity.*",
     {.write = loses<vmcs::proc_controls, vmcs::proc_interrupt_window>}},
    {"NMI-window exiting is ignored",
     "IntrWindow.*:IntrWaiting.*:IntrActivity.*",
     {.write = loses<vmcs::proc_controls, vmcs::proc_nmi_window>}},
    {"the monitor trap flag is ignored",
     "DebugMonitorTrap.*",
     {.write = loses<vmcs::proc_controls, vmcs::proc_monitor_trap>}},
    {"virtual NMIs are ignored", "IntrNmi.*", {.write = loses<vmcs::pin_controls, vmcs::pin_virtual_nmis>}},
    {"the preemption timer is ignored",
     "TimerPreemption.*",
     {.write = loses<vmcs::pin_controls, vmcs::pin_preemption_timer>}},
    {"the preemption timer is not saved",
     "TimerPreemption.*",
     {.write = loses<vmcs::exit_controls, vmcs::exit_save_timer>}},
    {"the preemption timer counts half as fast",
     "TimerPreemption.*",
     {.run = [](abi::Run& r) { r.preemption_timer *= 2; }}},
    {"use of the TPR shadow is ignored",
     "IntrTpr.*",
     {.write = loses<vmcs::proc_controls, vmcs::proc_tpr_shadow>}},
    {"descriptor-table exiting is ignored",
     "ExitTable.*:GuestMode.*",
     {.write = loses<vmcs::secondary_controls, 1u << 2>}},
    {"virtual-interrupt delivery is ignored", "Apic*.*", {.write = loses<vmcs::secondary_controls, 1u << 9>}},
    {"APIC-register virtualization is ignored",
     "Apic*.*",
     {.write = loses<vmcs::secondary_controls, 1u << 8>}},
    {"x2APIC virtualization is ignored", "ApicX2apic.*", {.write = loses<vmcs::secondary_controls, 1u << 4>}},
    {"RDTSCP is there without its control",
     "ExitTable.vmx_instructions_*",
     {.write = loses<vmcs::secondary_controls, 0, 1u << 3>}},
    {"INVPCID is there without its control",
     "ExitTable.vmx_instructions_*",
     {.write = loses<vmcs::secondary_controls, 0, 1u << 12>}},
    {"XSAVES is there without its control",
     "ExitTable.vmx_instructions_*",
     {.write = loses<vmcs::secondary_controls, 0, 1u << 20>}},
    {"page-fault mask and match are swapped",
     "Exit*.*fault*:ExitTable.*:Exit.*",
     {.write = [](u32 f, u64 value) { return f == 0x4006 || f == 0x4008 ? value ^ all : value; }}},
    {"the CR0 mask loses MP", "ExitTable.*", {.write = loses<vmcs::cr0_mask, 2>}},
    {"the CR4 mask loses TSD", "ExitTable.*", {.write = loses<vmcs::cr4_mask, 4>}},
    {"the CR0 read shadow shows TS wrong", "ExitTable.*", {.write = flips<vmcs::cr0_shadow, 8>}},
    {"the CR4 read shadow shows PVI wrong", "ExitTable.*", {.write = flips<vmcs::cr4_shadow, 2>}},
    {"the last CR3 target is ignored", "ExitTable.*:Exit.*", {.write = one_less<vmcs::cr3_target_count>}},
    {"the first CR3 target is another page", "ExitTable.*:Exit.*", {.write = flips<0x6008, 0x1000>}},
    {"ports from 8000H are looked up in bitmap A",
     "ExitTable.*",
     {.write = [](u32 f, u64 value) { return f == vmcs::io_bitmap_b ? value - 0x1000 : value; }}},
    {"the guest's MSR bitmap is another page", "ExitTable.*", {.write = flips<vmcs::msr_bitmap, 0x1000>}},
    {"the last entry of the MSR-load list is not loaded", "EntryMsrs.*", {.write = one_less<0x4014>}},
    {"the last entry of the exit MSR-store list is not stored", "EntryMsrs.*", {.write = one_less<0x400e>}},
    {"accessed and dirty flags for EPT are off", "EptDirty.*:EptLog.*", {.write = loses<0x201a, 1u << 6>}},
    {"the PML index is read as 511", "EptLog.*", {.write = loses<vmcs::pml_index, all, 511>}},
    {"the TSC offset is ignored", "TimerTsc.*", {.write = loses<0x2010>}},
    {"the TSC multiplier is ignored", "TimerTsc.*", {.write = loses<0x2032, all, u64{1} << 48>}},
    {"the first EOI-exit bitmap is ignored", "ApicEoi.*:ApicModel.*", {.write = loses<0x201c>}},
    {"the last EOI-exit bitmap is ignored", "ApicEoi.*:ApicModel.*", {.write = loses<0x2022>}},
    {"RVI is lost at the entry", "Apic*.*", {.write = loses<0x0810, 0xff>}},
    {"SVI is lost at the entry", "Apic*.*", {.write = loses<0x0810, 0xff00>}},
    {"the TPR threshold is ignored", "IntrTpr.*:IntrPriority.*:IntrActivity.*", {.write = loses<0x401c>}},

    // Guest state and events
    {"pending debug exceptions are not loaded",
     "IntrDebug.*:IntrPriority.*",
     {.write = loses<vmcs::pending_debug>}},
    {"the enabled-breakpoint bit is ignored",
     "IntrDebug.*:IntrActivity.*",
     {.write = loses<vmcs::pending_debug, 1u << 12>}},
    {"an activity state is active", "IntrActivity.*", {.write = loses<vmcs::activity>}},
    {"shutdown is HLT", "IntrActivity.*", {.write = replaces<vmcs::activity, 2, 1>}},
    {"blocking by STI is not loaded",
     "ExitSaves.*_shadow",
     {.write = loses<vmcs::interruptibility, vmcs::blocking_by_sti>}},
    {"blocking by MOV SS is not loaded",
     "Intr*.*",
     {.write = loses<vmcs::interruptibility, vmcs::blocking_by_mov_ss>}},
    {"blocking by NMI is not loaded",
     "IntrNmi.*:IntrActivity.*",
     {.write = loses<vmcs::interruptibility, vmcs::blocking_by_nmi>}},
    {"an injected event is lost",
     "Inject.*",
     {.write = of_valid_event<vmcs::entry_interruption_info, 1u << 31>}},
    {"an injected error code is not pushed",
     "Inject*.*",
     {.write = of_valid_event<vmcs::entry_interruption_info, 1u << 11>}},
    {"an injected error code is 0", "Inject*.*", {.write = loses<vmcs::entry_exception_error>}},
    {"INT3 is injected as a hardware exception",
     "Inject*.*",
     {.write =
          [](u32 f, u64 v) {
              return f == vmcs::entry_interruption_info && (v & 0x700) == 0x600 ? v ^ 0x500 : v;
          }}},
    {"the length of an injected software event is off by one",
     "Inject*.*",
     {.write = [](u32 f, u64 v) { return f == vmcs::entry_length && v != 0 ? v + 1 : v; }}},
    {"DR7 is not loaded", "Debug*.*", {.write = loses<vmcs::guest_dr7, all, 0x400>}},
    {"DEBUGCTL.BTF is not loaded", "Debug*.*", {.write = loses<vmcs::guest_debugctl, 2>}},
    {"PAT is not loaded",
     "NestedPat.*:EptWalk.*:Exit*.*",
     {.write = loses<0x2804, all, 0x0007'0406'0007'0406>}},
    {"a PDPTE is not present", "GuestMode.*", {.write = loses<0x280a, 1>}},

    // Checks that are left out
    {"entry: reserved bits of the pin-based controls",
     entries,
     {.write = loses<vmcs::pin_controls, 0xffff'ff00>}},
    {"entry: reserved bits of access rights", entries, {.write = rights_lose<0xfffe'0f00>}},
    {"entry: P of segments",
     entries,
     {.write = [](u32 f, u64 v) { return f >= 0x4814 && f <= 0x4822 ? v | 0x80 : v; }}},
    {"entry: granularity against the limit",
     entries,
     {.write = [](u32 f, u64 v) { return f >= 0x4800 && f <= 0x480e ? v | 0xfff : v; }}},
    {"entry: type of TR",
     entries,
     {.write = [](u32 f, u64 v) { return f == 0x4822 ? (v & ~u64{15}) | 11 : v; }}},
    {"entry: reserved bits of RFLAGS",
     entries,
     {.write = [](u32 f, u64 v) { return f == 0x6820 ? (v & 0x3f'7fd7) | 2 : v; }}},
    {"entry: canonical bases", entries, {.write = made_canonical<0x6806, 0x6818>}},
    {"entry: canonical SYSENTER addresses", entries, {.write = made_canonical<0x6824, 0x6826>}},
    {"entry: upper half of DR7", entries, {.write = loses<vmcs::guest_dr7, 0xffff'ffff'0000'0000>}},
    {"entry: reserved bits of DEBUGCTL", entries, {.write = loses<vmcs::guest_debugctl, ~u64{0xffc3}>}},
    {"entry: the VMCS link pointer", entries, {.write = loses<vmcs::link_pointer, all, all>}},
    {"entry: reserved bits of the interruptibility",
     entries,
     {.write = loses<vmcs::interruptibility, ~u64{31}>}},
    {"entry: STI and MOV SS together", entries, {.write = replaces<vmcs::interruptibility, 3, 1>}},
    {"entry: unknown activity states",
     entries,
     {.write = [](u32 f, u64 v) { return f == vmcs::activity && v > 3 ? 0 : v; }}},
    {"entry: reserved bits of pending debug exceptions",
     entries,
     {.write = loses<vmcs::pending_debug, ~u64{0x1'500f}>}},
    {"entry: reserved bits of the injected event",
     entries,
     {.write = of_valid_event<vmcs::entry_interruption_info, 0x7fff'f000>}},
    {"entry: instruction length above 15", entries, {.write = loses<vmcs::entry_length, ~u64{15}>}},
    {"entry: memory type of the EPT pointer",
     entries,
     {.write = [](u32 f, u64 v) { return f == 0x201a ? (v & ~u64{7}) | 6 : v; }}},
    {"entry: PAT", entries, {.write = loses<0x2804, all, 0x0007'0406'0007'0406>}},
    {"entry: reserved bits of EFER", entries, {.write = loses<0x2806, ~u64{0xd01}>}},
    {"entry: the host's EFER", entries, {.write = loses<0x2c02, ~u64{0xd01}>}},
    {"entry: canonical host bases", entries, {.write = made_canonical<0x6c06, 0x6c16>}},
    {"entry: TI and RPL of the host's selectors",
     entries,
     {.write = [](u32 f, u64 v) { return f >= 0x0c00 && f <= 0x0c0c ? v & ~u64{7} : v; }}},
    {"entry: a null TR of the host", entries, {.write = replaces<0x0c0c, 0, 8>}},
    {"entry: the number of CR3 targets",
     entries,
     {.write = [](u32 f, u64 v) { return f == vmcs::cr3_target_count && v > 4 ? 4 : v; }}},
    {"entry: alignment of the MSR lists",
     entries,
     {.write = [](u32 f, u64 v) { return f >= 0x2006 && f <= 0x200a ? v & ~u64{15} : v; }}},

    // Checks that are too strict
    {"entry: HLT is refused", "Entry*.*:IntrWaiting.*", {.write = replaces<vmcs::activity, 1, 15>}},
    {"entry: blocking by NMI is refused",
     "Entry*.*:IntrNmi.*",
     {.write = replaces<vmcs::interruptibility, vmcs::blocking_by_nmi, 0x28>}},
    {"entry: RF is refused",
     "Entry*.*:Debug*.*",
     {.write = [](u32 f, u64 v) { return f == 0x6820 && (v >> 16 & 1) != 0 ? v | 8 : v; }}},
    {"entry: four CR3 targets are refused",
     "Entry*.*:ExitTable.*",
     {.write = replaces<vmcs::cr3_target_count, 4, 5>}},
    {"entry: limit 0 is refused",
     "Entry*.*",
     {.write = [](u32 f, u64 v) { return f >= 0x4800 && f <= 0x480a && v == 0 ? 0xfff0'0000 : v; }}},
};

} // namespace

std::span<const Fault> vmx_asked() {
    return rows;
}

} // namespace refhv::front::faults
