// SPDX-License-Identifier: MIT
// Bits of control registers, EFER, RFLAGS and the MSR numbers in use (SDM 3A chapter 2, SDM 4; APM 2 chapter
// 3).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86 {

namespace cr0 {
inline constexpr u64 pe = 1u << 0, mp = 1u << 1, em = 1u << 2, ts = 1u << 3, et = 1u << 4, ne = 1u << 5,
                     wp = 1u << 16, am = 1u << 18, nw = 1u << 29, cd = 1u << 30, pg = 1u << 31;
} // namespace cr0

namespace cr4 {
inline constexpr u64 tsd = 1u << 2, de = 1u << 3, pse = 1u << 4, pae = 1u << 5, mce = 1u << 6, pge = 1u << 7,
                     pce = 1u << 8, osfxsr = 1u << 9, umip = 1u << 11, la57 = 1u << 12, vmxe = 1u << 13,
                     smxe = 1u << 14, fsgsbase = 1u << 16, pcide = 1u << 17, osxsave = 1u << 18,
                     smep = 1u << 20, smap = 1u << 21, pke = 1u << 22, cet = 1u << 23, lass = 1u << 27,
                     fred = u64{1} << 32;
} // namespace cr4

namespace efer {
inline constexpr u64 sce = 1u << 0, lme = 1u << 8, lma = 1u << 10, nxe = 1u << 11, svme = 1u << 12;
} // namespace efer

namespace rflags_bits {
inline constexpr u64 fixed = 1u << 1, tf = 1u << 8, interrupt = 1u << 9, df = 1u << 10, ac = 1u << 18;
} // namespace rflags_bits

namespace msr {
inline constexpr u32 tsc = 0x10, platform_id = 0x17, apic_base = 0x1b, feature_control = 0x3a,
                     spec_ctrl = 0x48, bios_sign = 0x8b, arch_capabilities = 0x10a, mcu_opt_ctrl = 0x123,
                     tsx_ctrl = 0x122, sysenter_cs = 0x174, sysenter_esp = 0x175, sysenter_eip = 0x176,
                     xfd_err = 0x1c5, debugctl = 0x1d9, pat = 0x277, tsc_deadline = 0x6e0, x2apic_icr = 0x830,
                     u_cet = 0x6a0, xss = 0xda0, efer = 0xc000'0080, star = 0xc000'0081, lstar = 0xc000'0082,
                     cstar = 0xc000'0083, sfmask = 0xc000'0084, fs_base = 0xc000'0100, gs_base = 0xc000'0101,
                     kernel_gs_base = 0xc000'0102, tsc_aux = 0xc000'0103;
// VMX capabilities (SDM 3D appendix A): 0x480 basic to 0x491 vmfunc, 0x492 tertiary controls.
inline constexpr u32 vmx_basic = 0x480, vmx_pin = 0x481, vmx_proc = 0x482, vmx_exit = 0x483,
                     vmx_entry = 0x484, vmx_misc = 0x485, vmx_cr0_fixed0 = 0x486, vmx_cr0_fixed1 = 0x487,
                     vmx_cr4_fixed0 = 0x488, vmx_cr4_fixed1 = 0x489, vmx_vmcs_enum = 0x48a, vmx_proc2 = 0x48b,
                     vmx_ept_vpid = 0x48c, vmx_true_pin = 0x48d, vmx_true_proc = 0x48e, vmx_true_exit = 0x48f,
                     vmx_true_entry = 0x490, vmx_vmfunc = 0x491, vmx_proc3 = 0x492;
// SVM (APM 2 15.30); LFENCE serializing is bit 1 of DE_CFG (AMD, "Software techniques for managing
// speculation").
inline constexpr u32 vm_cr = 0xc001'0114, vm_hsave_pa = 0xc001'0117, de_cfg = 0xc001'1029,
                     amd_hwcr = 0xc001'0015, amd_patch_level = 0x8b;
} // namespace msr

} // namespace refhv::x86
