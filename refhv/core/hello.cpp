// SPDX-License-Identifier: MIT
// What the core says about the machine it stands on.
#include "refhv/core/hello.hpp"

#include "refhv/core/platform.hpp"
#include "refhv/x86/cpuid_leaves.hpp"
#include "refhv/x86/disturbance_msrs.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv {

namespace {

namespace m = x86::msr;

// MSRs that say what the machine can do or what its mitigations cost; each is probed, absent ones are told as
// absent.
constexpr u32 common_msrs[] = {m::apic_base, m::spec_ctrl, m::arch_capabilities, m::pat, m::efer};
constexpr u32 intel_msrs[] = {m::platform_id,    m::feature_control, m::mcu_opt_ctrl,   m::tsx_ctrl,
                              m::vmx_basic,      m::vmx_pin,         m::vmx_proc,       m::vmx_exit,
                              m::vmx_entry,      m::vmx_misc,        m::vmx_cr0_fixed0, m::vmx_cr0_fixed1,
                              m::vmx_cr4_fixed0, m::vmx_cr4_fixed1,  m::vmx_vmcs_enum,  m::vmx_proc2,
                              m::vmx_ept_vpid,   m::vmx_true_pin,    m::vmx_true_proc,  m::vmx_true_exit,
                              m::vmx_true_entry, m::vmx_vmfunc,      m::vmx_proc3};
constexpr u32 amd_msrs[] = {m::vm_cr, m::vm_hsave_pa, m::de_cfg, m::amd_hwcr};

u32 read_microcode() {
    // Intel: write 0, CPUID, read bits 63:32 (SDM 3A 10.11.7). AMD: the patch level in bits 31:0.
    u64 value = 0;
    if ((x86::cpuid(0).ebx == 0x756e'6547) && platform::try_wrmsr(m::bios_sign, 0)) {
        (void)x86::cpuid(1);
        return platform::try_rdmsr(m::bios_sign, value) ? static_cast<u32>(value >> 32) : 0;
    }
    return platform::try_rdmsr(m::amd_patch_level, value) ? static_cast<u32>(value) : 0;
}

// TSC ticks a second, where the CPU, the hypervisor beneath or the platform says it; 0 else: this core does
// not guess.
u64 tsc_rate(abi::TscSource& source) {
    const u32 last = x86::cpuid(0).eax;
    if (last >= 0x15) {
        const abi::CpuidLeaf l = x86::cpuid(0x15);
        if (l.eax != 0 && l.ebx != 0 && l.ecx != 0) {
            source = abi::TscSource::cpuid_15h;
            return u64{l.ecx} * l.ebx / l.eax;
        }
    }
    if ((x86::cpuid(1).ecx >> 31 & 1) != 0 && x86::cpuid(0x4000'0000).eax >= 0x4000'0010) {
        source = abi::TscSource::hypervisor_leaf;
        return u64{x86::cpuid(0x4000'0010).eax} * 1000;
    }
    const u64 known = platform::tsc_hz();
    source = known != 0 ? abi::TscSource::calibrated : abi::TscSource::unknown;
    return known;
}

} // namespace

bool describe_machine(abi::HelloReply& h, ReplyWriter& reply) {
    abi::TscSource source{};
    h.tsc_hz = tsc_rate(source);
    h.tsc_source = static_cast<u16>(source);
    h.microcode = read_microcode();
    u8* const at = reply.cursor();
    bool fits = reply.put(h); // again at the end, with the lengths of the lists
    h.cpuid_count = x86::enumerate_cpuid([&](const abi::CpuidLeaf& leaf) { fits = fits && reply.put(leaf); });
    const auto put_msrs = [&](std::span<const u32> list) {
        for (const u32 index : list) {
            u64 value = 0;
            const bool present = platform::try_rdmsr(index, value);
            fits = fits && reply.put(abi::MsrValue{index, present ? 1u : 0u, present ? value : 0});
            ++h.msr_count;
        }
    };
    put_msrs(common_msrs);
    const bool intel = x86::cpuid(0).ebx == 0x756e'6547; // "Genu"
    put_msrs(intel ? std::span<const u32>(intel_msrs) : std::span<const u32>(amd_msrs));
    put_msrs(m::disturbance_msrs_of_all); // as they are now: a later hello tells what came between
    put_msrs(intel ? std::span<const u32>(m::disturbance_msrs_of_intel) : std::span<const u32>());
    for (u32 cpu = 0; cpu < h.cpus; ++cpu) {
        fits = fits && reply.put(platform::cpu_info(cpu));
    }
    h.cpu_info_count = h.cpus;
    if (fits) {
        __builtin_memcpy(at, &h, sizeof h);
    }
    return fits;
}

} // namespace refhv
