// SPDX-License-Identifier: MIT
// What a run must leave as it found it, taken before and after every run and compared.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/core/platform.hpp"
#include "refhv/vcpu/guest_registers.hpp"
#include "refhv/x86/registers.hpp"
#include "refhv/x86/tss.hpp"

namespace refhv::x86 {

struct HostSnapshot {
    u64 cr0, cr3, cr4, efer;
    DescriptorTable gdtr, idtr;
    u16 selectors[8];
    u64 fs_base, gs_base;
    u64 dr7, xcr0, rflags;
    u64 syscall_msrs[5];
    u64 sysenter_msrs[3];
    u64 pat, tsc_aux;
    u64 cr8, debug_registers[5], debugctl, xss, spec_ctrl, u_cet;
    u64 tss_base, tss_limit;
    u32 pkru;

    [[nodiscard]] static HostSnapshot take(bool has_tsc_aux) {
        HostSnapshot s{};
        s.cr0 = read_cr0();
        s.cr3 = read_cr3();
        s.cr4 = read_cr4();
        s.efer = rdmsr(msr::efer);
        s.gdtr = sgdt();
        s.idtr = sidt();
        const u16 selectors[8] = {read_es(), read_cs(), read_ss(), read_ds(),
                                  read_fs(), read_gs(), sldt(),    str()};
        __builtin_memcpy(s.selectors, selectors, sizeof selectors);
        s.fs_base = rdmsr(msr::fs_base);
        s.gs_base = rdmsr(msr::gs_base);
        s.dr7 = read_dr7();
        s.xcr0 = (s.cr4 & cr4::osxsave) != 0 ? xgetbv() : 0;
        s.rflags =
            x86::rflags() & (rflags_bits::interrupt | rflags_bits::df | rflags_bits::ac | rflags_bits::tf);
        s.syscall_msrs[0] = rdmsr(msr::star);
        s.syscall_msrs[1] = rdmsr(msr::lstar);
        s.syscall_msrs[2] = rdmsr(msr::cstar);
        s.syscall_msrs[3] = rdmsr(msr::sfmask);
        s.syscall_msrs[4] = rdmsr(msr::kernel_gs_base);
        s.sysenter_msrs[0] = rdmsr(msr::sysenter_cs);
        s.sysenter_msrs[1] = rdmsr(msr::sysenter_esp);
        s.sysenter_msrs[2] = rdmsr(msr::sysenter_eip);
        s.pat = rdmsr(msr::pat);
        s.tsc_aux = has_tsc_aux ? rdmsr(msr::tsc_aux) : 0;
        s.cr8 = read_cr8();
        const u64 debug[5] = {read_dr0(), read_dr1(), read_dr2(), read_dr3(), read_dr6()};
        __builtin_memcpy(s.debug_registers, debug, sizeof debug);
        const auto optional = [](u32 index) {
            u64 value = 0;
            return platform::try_rdmsr(index, value) ? value : 0;
        };
        s.debugctl = optional(msr::debugctl);
        s.xss = optional(msr::xss);
        s.spec_ctrl = optional(msr::spec_ctrl);
        s.u_cet = optional(msr::u_cet);
        s.pkru = Features::detect().pkru ? read_pkru() : 0;
        s.tss_base = x86::tss_base(s.gdtr, s.selectors[7]);
        s.tss_limit = x86::tss_limit(s.gdtr, s.selectors[7]);
        return s;
    }

    // abi::HostState bits of what differs.
    [[nodiscard]] u32 differences(const HostSnapshot& o) const {
        const auto bit = [](bool differs, u32 b) { return differs ? b : 0; };
        const auto bytes_differ = [](const auto& a, const auto& b) {
            return __builtin_memcmp(&a, &b, sizeof a) != 0;
        };
        return bit(cr0 != o.cr0, abi::host_cr0) | bit(cr3 != o.cr3, abi::host_cr3) |
               bit(cr4 != o.cr4, abi::host_cr4) | bit(efer != o.efer, abi::host_efer) |
               bit(bytes_differ(gdtr, o.gdtr), abi::host_gdtr) |
               bit(bytes_differ(idtr, o.idtr), abi::host_idtr) |
               bit(bytes_differ(selectors, o.selectors), abi::host_selectors) |
               bit(fs_base != o.fs_base || gs_base != o.gs_base, abi::host_fs_gs_base) |
               bit(dr7 != o.dr7, abi::host_dr7) | bit(xcr0 != o.xcr0, abi::host_xcr0) |
               bit(bytes_differ(syscall_msrs, o.syscall_msrs), abi::host_syscall_msrs) |
               bit(bytes_differ(sysenter_msrs, o.sysenter_msrs), abi::host_sysenter_msrs) |
               bit(pat != o.pat, abi::host_pat) | bit(tsc_aux != o.tsc_aux, abi::host_tsc_aux) |
               bit(rflags != o.rflags, abi::host_rflags) | bit(cr8 != o.cr8, abi::host_cr8) |
               bit(bytes_differ(debug_registers, o.debug_registers), abi::host_debug_registers) |
               bit(debugctl != o.debugctl, abi::host_debugctl) | bit(xss != o.xss, abi::host_xss) |
               bit(spec_ctrl != o.spec_ctrl, abi::host_spec_ctrl) | bit(pkru != o.pkru, abi::host_pkru) |
               bit(u_cet != o.u_cet, abi::host_u_cet) |
               bit(tss_base != o.tss_base || tss_limit != o.tss_limit, abi::host_tss);
    }
};

} // namespace refhv::x86
