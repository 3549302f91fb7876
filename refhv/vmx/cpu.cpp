// SPDX-License-Identifier: MIT
#include "refhv/vmx/cpu.hpp"

#include "refhv/core/permissions.hpp"
#include "refhv/vmx/instructions.hpp"

namespace refhv::vmx {

namespace {
constexpr u64 feature_lock = 1u << 0;
constexpr u64 feature_vmx_outside_smx = 1u << 2;
} // namespace

Probe Cpu::probe() {
    using enum abi::BackendStatus;
    if ((x86::cpuid(1).ecx >> 5 & 1) == 0) {
        return {absent, "CPUID.1:ECX.VMX[5] is 0: this CPU has no VMX, or a hypervisor hides it"};
    }
    u64 feature_control = 0;
    if (!platform::try_rdmsr(x86::msr::feature_control, feature_control)) {
        return {lacking, "IA32_FEATURE_CONTROL (3AH) cannot be read"};
    }
    if ((feature_control & feature_lock) != 0 && (feature_control & feature_vmx_outside_smx) == 0) {
        return {locked_by_firmware,
                "firmware locked VMX off: IA32_FEATURE_CONTROL (3AH) has bit 0 set, bit 2 clear; "
                "enable virtualization in the firmware's set-up"};
    }
    if ((x86::read_cr4() & x86::cr4::vmxe) != 0) {
        return {in_use, "CR4.VMXE is set already: another hypervisor uses VMX on this CPU"};
    }
    const Capabilities c = Capabilities::read();
    if (!c.proc.offers(proc::secondary | proc::msr_bitmaps | proc::io_bitmaps) ||
        !c.proc2.offers(proc2::ept)) {
        return {lacking, "VMX without EPT or without MSR and I/O bitmaps"};
    }
    if (!c.ept_walk4_wb()) {
        return {lacking,
                "EPT without write-back tables of four levels (IA32_VMX_EPT_VPID_CAP bits 6 and 14)"};
    }
    if (!c.invept_single() && !c.invept_all()) { // else translations would outlive their VM
        return {lacking, "EPT without INVEPT (IA32_VMX_EPT_VPID_CAP bits 20, 25 and 26)"};
    }
    if ((x86::read_cr0() & ~c.cr0_fixed1) != 0 || (x86::read_cr4() & ~c.cr4_fixed1) != 0) {
        return {lacking, "the host uses bits of CR0 or CR4 that VMX operation forbids "
                         "(IA32_VMX_CR0_FIXED1, IA32_VMX_CR4_FIXED1)"};
    }
    if (!c.exit.offers(exit_control::host_address_space | exit_control::load_efer |
                       exit_control::save_efer) ||
        !c.entry.offers(entry_control::ia32e_guest | entry_control::load_efer)) {
        return {lacking, "VMX without 64-bit hosts or without loading IA32_EFER at entry and exit"};
    }
    return {usable, ""};
}

Status Cpu::enable(Arena& arena, u32 cpu) {
    PerCpu& mine = per_cpu_[cpu];
    if (mine.vmxon_region != 0) {
        return {};
    }
    if (const Probe p = probe(); p.status != abi::BackendStatus::usable) {
        return refuse(abi::Outcome::unsupported, p.note);
    }
    capabilities_ = Capabilities::read();
    u64 feature_control = x86::rdmsr(x86::msr::feature_control);
    if ((feature_control & feature_lock) == 0) { // and then locked until the next reset
        if (!platform::permissions().has(Permit::host_msrs)) {
            return refuse(Permit::host_msrs);
        }
        feature_control |= feature_lock | feature_vmx_outside_smx;
        if (!platform::try_wrmsr(x86::msr::feature_control, feature_control)) {
            return refuse(abi::Outcome::unsupported, "IA32_FEATURE_CONTROL refuses to be written");
        }
    }
    const u64 region = arena.allocate();
    if (region == 0) {
        return refuse(abi::Outcome::exhausted, "no page for the VMXON region");
    }
    *static_cast<u32*>(platform::to_virtual(region)) = capabilities_.revision();
    // SDM 3C 24.8: bits that VMX operation needs in CR0 and CR4. It forbids none that the host has (probe).
    const u64 cr0 = x86::read_cr0(), cr4 = x86::read_cr4();
    const PerCpu wanted{region, capabilities_.cr0_fixed0 & ~cr0, capabilities_.cr4_fixed0 & ~cr4};
    platform::add_control_bits(wanted.added_cr0, wanted.added_cr4);
    if (!platform::try_vmxon(region)) { // A20M, or whatever else firmware forbids: #GP (SDM 3C 31.3)
        platform::remove_control_bits(wanted.added_cr0, wanted.added_cr4);
        arena.release(region);
        return refuse(abi::Outcome::unsupported, "VMXON failed");
    }
    mine = wanted;
    // What an earlier user of VMX left behind under our tags must not be used (SDM 3C 29.4.3.3).
    if (capabilities_.invept_all()) {
        (void)invept(2, {});
    }
    if (capabilities_.invvpid_all()) {
        (void)invvpid(2, {});
    }
    return {};
}

// Only behind VMXOFF may CR4.VMXE be cleared (SDM 3C 24.8), and only there does the CPU take an INIT again
// (26.2).
void Cpu::disable(Arena& arena, u32 cpu) {
    PerCpu& mine = per_cpu_[cpu];
    if (mine.vmxon_region == 0) {
        return;
    }
    vmxoff();
    platform::remove_control_bits(mine.added_cr0, mine.added_cr4);
    arena.release(mine.vmxon_region);
    mine = {};
}

} // namespace refhv::vmx
