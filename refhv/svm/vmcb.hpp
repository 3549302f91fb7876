// SPDX-License-Identifier: MIT
// The virtual machine control block (APM 2 appendix B) and exit codes (appendix C).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::svm {

struct VmcbSegment {
    u16 selector;
    u16 attributes; // bits 7:0 are descriptor bits 47:40, bits 11:8 are 55:52
    u32 limit;
    u64 base;
};
static_assert(sizeof(VmcbSegment) == 16);

struct Vmcb {
    // Control area
    u16 intercept_cr_read, intercept_cr_write;
    u16 intercept_dr_read, intercept_dr_write;
    u32 intercept_exceptions;
    u32 intercept_1, intercept_2, intercept_3;
    u8 reserved_018[0x3c - 0x18];
    u16 pause_filter_threshold, pause_filter_count;
    u64 iopm_base, msrpm_base;
    u64 tsc_offset;
    u32 asid;
    u8 tlb_control;
    u8 reserved_05d[3];
    u64 interrupt_control; // V_TPR, V_IRQ, … V_INTR_MASKING
    u64 interrupt_shadow;
    u64 exit_code;
    u64 exit_info_1, exit_info_2;
    u64 exit_int_info;
    u64 nested_control; // bit 0 NP_ENABLE
    u64 avic_apic_bar;
    u64 ghcb;
    u64 event_injection;
    u64 nested_cr3;
    u64 virtualization_extensions; // bit 0 LBR virtualization, bit 1 VMSAVE/VMLOAD virtualization
    u32 clean_bits;
    u32 reserved_0c4;
    u64 next_rip;
    u8 instruction_bytes_count;
    u8 instruction_bytes[15];
    u8 reserved_0e0[0x400 - 0xe0];
    // State save area
    VmcbSegment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    u8 reserved_4a0[0x4cb - 0x4a0];
    u8 cpl;
    u32 reserved_4cc;
    u64 efer;
    u8 reserved_4d8[0x548 - 0x4d8];
    u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
    u8 reserved_580[0x5d8 - 0x580];
    u64 rsp;
    u64 s_cet, ssp, isst;
    u64 rax;
    u64 star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 cr2;
    u8 reserved_648[0x668 - 0x648];
    u64 g_pat, debugctl, br_from, br_to, last_excp_from, last_excp_to;
    u8 reserved_698[0x1000 - 0x698];
};
static_assert(sizeof(Vmcb) == 4096);
static_assert(offsetof(Vmcb, pause_filter_threshold) == 0x3c);
static_assert(offsetof(Vmcb, iopm_base) == 0x40 && offsetof(Vmcb, tsc_offset) == 0x50);
static_assert(offsetof(Vmcb, asid) == 0x58 && offsetof(Vmcb, tlb_control) == 0x5c);
static_assert(offsetof(Vmcb, interrupt_control) == 0x60 && offsetof(Vmcb, exit_code) == 0x70);
static_assert(offsetof(Vmcb, exit_int_info) == 0x88 && offsetof(Vmcb, nested_control) == 0x90);
static_assert(offsetof(Vmcb, event_injection) == 0xa8 && offsetof(Vmcb, nested_cr3) == 0xb0);
static_assert(offsetof(Vmcb, clean_bits) == 0xc0 && offsetof(Vmcb, next_rip) == 0xc8);
static_assert(offsetof(Vmcb, instruction_bytes) == 0xd1);
static_assert(offsetof(Vmcb, es) == 0x400 && offsetof(Vmcb, tr) == 0x490 && offsetof(Vmcb, cpl) == 0x4cb);
static_assert(offsetof(Vmcb, efer) == 0x4d0 && offsetof(Vmcb, cr4) == 0x548 && offsetof(Vmcb, rip) == 0x578);
static_assert(offsetof(Vmcb, rsp) == 0x5d8 && offsetof(Vmcb, rax) == 0x5f8 && offsetof(Vmcb, star) == 0x600);
static_assert(offsetof(Vmcb, cr2) == 0x640 && offsetof(Vmcb, g_pat) == 0x668);

// Bits of the third intercept word, offset 00CH.
namespace intercept_1 {
inline constexpr u32 intr = 1u << 0, nmi = 1u << 1, smi = 1u << 2, init = 1u << 3, vintr = 1u << 4,
                     cr0_selective_write = 1u << 5, idtr_read = 1u << 6, gdtr_read = 1u << 7,
                     ldtr_read = 1u << 8, tr_read = 1u << 9, idtr_write = 1u << 10, gdtr_write = 1u << 11,
                     ldtr_write = 1u << 12, tr_write = 1u << 13, rdtsc = 1u << 14, rdpmc = 1u << 15,
                     pushf = 1u << 16, popf = 1u << 17, cpuid = 1u << 18, rsm = 1u << 19, iret = 1u << 20,
                     int_n = 1u << 21, invd = 1u << 22, pause = 1u << 23, hlt = 1u << 24, invlpg = 1u << 25,
                     invlpga = 1u << 26, ioio = 1u << 27, msr = 1u << 28, task_switch = 1u << 29,
                     ferr_freeze = 1u << 30, shutdown = 1u << 31;
}
// Offset 010H.
namespace intercept_2 {
inline constexpr u32 vmrun = 1u << 0, vmmcall = 1u << 1, vmload = 1u << 2, vmsave = 1u << 3, stgi = 1u << 4,
                     clgi = 1u << 5, skinit = 1u << 6, rdtscp = 1u << 7, icebp = 1u << 8, wbinvd = 1u << 9,
                     monitor = 1u << 10, mwait = 1u << 11, mwait_armed = 1u << 12, xsetbv = 1u << 13;
}
// Offset 014H.
namespace intercept_3 {
inline constexpr u32 invlpgb = 1u << 0, invlpgb_illegal = 1u << 1, invpcid = 1u << 2, mcommit = 1u << 3,
                     tlbsync = 1u << 4;
}

// Offset 060H.
namespace interrupt_control {
inline constexpr u64 v_irq = 1u << 8, v_intr_prio = 15u << 16, v_ign_tpr = 1u << 20,
                     v_intr_masking = 1u << 24, v_nmi_enable = 1u << 26, x2avic_enable = 1u << 30,
                     avic_enable = 1u << 31, v_intr_vector = u64{0xff} << 32;
inline constexpr unsigned v_intr_prio_shift = 16, v_intr_vector_shift = 32;
} // namespace interrupt_control

enum class TlbControl : u8 {
    nothing = 0,
    flush_all = 1,
    flush_asid = 3,
    flush_asid_keep_globals = 7,
};

enum class ExitCode : u64 {
    cr0_read = 0x000,
    cr0_write = 0x010,
    dr0_read = 0x020,
    dr0_write = 0x030,
    exception_0 = 0x040,
    intr = 0x060,
    nmi = 0x061,
    smi = 0x062,
    init = 0x063,
    vintr = 0x064,
    cr0_selective_write = 0x065,
    idtr_read = 0x066,
    gdtr_read = 0x067,
    ldtr_read = 0x068,
    tr_read = 0x069,
    idtr_write = 0x06a,
    gdtr_write = 0x06b,
    ldtr_write = 0x06c,
    tr_write = 0x06d,
    rdtsc = 0x06e,
    rdpmc = 0x06f,
    pushf = 0x070,
    popf = 0x071,
    cpuid = 0x072,
    rsm = 0x073,
    iret = 0x074,
    int_n = 0x075,
    invd = 0x076,
    pause = 0x077,
    hlt = 0x078,
    invlpg = 0x079,
    invlpga = 0x07a,
    ioio = 0x07b,
    msr = 0x07c,
    task_switch = 0x07d,
    ferr_freeze = 0x07e,
    shutdown = 0x07f,
    vmrun = 0x080,
    vmmcall = 0x081,
    vmload = 0x082,
    vmsave = 0x083,
    stgi = 0x084,
    clgi = 0x085,
    skinit = 0x086,
    rdtscp = 0x087,
    icebp = 0x088,
    wbinvd = 0x089,
    monitor = 0x08a,
    mwait = 0x08b,
    mwait_armed = 0x08c,
    xsetbv = 0x08d,
    rdpru = 0x08e,
    efer_write_trap = 0x08f,
    invlpgb = 0x0a0,
    invpcid = 0x0a2,
    npf = 0x400,
    avic_incomplete_ipi = 0x401,
    avic_noaccel = 0x402,
    invalid = ~u64{0},
};

} // namespace refhv::svm
