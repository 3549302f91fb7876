// SPDX-License-Identifier: MIT
// VMCS field encodings (SDM 3D appendix B) and the bits of the control fields (SDM 3C chapter 25).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::vmx {

enum class Field : u32 {
    // 16-bit control
    virtual_processor_id = 0x0000,
    posted_interrupt_vector = 0x0002,
    eptp_index = 0x0004,
    // 16-bit guest state
    guest_es_selector = 0x0800,
    guest_cs_selector = 0x0802,
    guest_ss_selector = 0x0804,
    guest_ds_selector = 0x0806,
    guest_fs_selector = 0x0808,
    guest_gs_selector = 0x080a,
    guest_ldtr_selector = 0x080c,
    guest_tr_selector = 0x080e,
    guest_interrupt_status = 0x0810,
    pml_index = 0x0812,
    // 16-bit host state
    host_es_selector = 0x0c00,
    host_cs_selector = 0x0c02,
    host_ss_selector = 0x0c04,
    host_ds_selector = 0x0c06,
    host_fs_selector = 0x0c08,
    host_gs_selector = 0x0c0a,
    host_tr_selector = 0x0c0c,
    // 64-bit control
    io_bitmap_a = 0x2000,
    io_bitmap_b = 0x2002,
    msr_bitmap = 0x2004,
    exit_msr_store_address = 0x2006,
    exit_msr_load_address = 0x2008,
    entry_msr_load_address = 0x200a,
    executive_vmcs_pointer = 0x200c,
    pml_address = 0x200e,
    tsc_offset = 0x2010,
    virtual_apic_address = 0x2012,
    apic_access_address = 0x2014,
    posted_interrupt_descriptor = 0x2016,
    vm_function_controls = 0x2018,
    ept_pointer = 0x201a,
    ve_information_address = 0x202a,
    xss_exiting_bitmap = 0x202c,
    tsc_multiplier = 0x2032,
    // 64-bit read-only
    guest_physical_address = 0x2400,
    // 64-bit guest state
    vmcs_link_pointer = 0x2800,
    guest_debugctl = 0x2802,
    guest_pat = 0x2804,
    guest_efer = 0x2806,
    guest_pdpte0 = 0x280a, // to 3, each 2 further
    // 64-bit host state
    host_pat = 0x2c00,
    host_efer = 0x2c02,
    // 32-bit control
    pin_based_controls = 0x4000,
    proc_based_controls = 0x4002,
    exception_bitmap = 0x4004,
    page_fault_error_mask = 0x4006,
    page_fault_error_match = 0x4008,
    cr3_target_count = 0x400a,
    exit_controls = 0x400c,
    exit_msr_store_count = 0x400e,
    exit_msr_load_count = 0x4010,
    entry_controls = 0x4012,
    entry_msr_load_count = 0x4014,
    entry_interruption_info = 0x4016,
    entry_exception_error = 0x4018,
    entry_instruction_length = 0x401a,
    tpr_threshold = 0x401c,
    secondary_controls = 0x401e,
    ple_gap = 0x4020,
    ple_window = 0x4022,
    // 32-bit read-only
    instruction_error = 0x4400,
    exit_reason = 0x4402,
    exit_interruption_info = 0x4404,
    exit_interruption_error = 0x4406,
    vectoring_info = 0x4408,
    vectoring_error = 0x440a,
    exit_instruction_length = 0x440c,
    exit_instruction_info = 0x440e,
    // 32-bit guest state
    guest_es_limit = 0x4800,
    guest_gdtr_limit = 0x4810,
    guest_idtr_limit = 0x4812,
    guest_es_rights = 0x4814,
    guest_interruptibility = 0x4824,
    guest_activity = 0x4826,
    guest_sysenter_cs = 0x482a,
    preemption_timer_value = 0x482e,
    // 32-bit host state
    host_sysenter_cs = 0x4c00,
    // natural-width control
    cr0_mask = 0x6000,
    cr4_mask = 0x6002,
    cr0_shadow = 0x6004,
    cr4_shadow = 0x6006,
    // natural-width read-only
    exit_qualification = 0x6400,
    guest_linear_address = 0x640a,
    // natural-width guest state
    guest_cr0 = 0x6800,
    guest_cr3 = 0x6802,
    guest_cr4 = 0x6804,
    guest_es_base = 0x6806,
    guest_gdtr_base = 0x6816,
    guest_idtr_base = 0x6818,
    guest_dr7 = 0x681a,
    guest_rsp = 0x681c,
    guest_rip = 0x681e,
    guest_rflags = 0x6820,
    guest_pending_debug = 0x6822,
    guest_sysenter_esp = 0x6824,
    guest_sysenter_eip = 0x6826,
    // natural-width host state
    host_cr0 = 0x6c00,
    host_cr3 = 0x6c02,
    host_cr4 = 0x6c04,
    host_fs_base = 0x6c06,
    host_gs_base = 0x6c08,
    host_tr_base = 0x6c0a,
    host_gdtr_base = 0x6c0c,
    host_idtr_base = 0x6c0e,
    host_sysenter_esp = 0x6c10,
    host_sysenter_eip = 0x6c12,
    host_rsp = 0x6c14,
    host_rip = 0x6c16,
};

// The field of segment i (ES, CS, SS, DS, FS, GS, LDTR, TR), given that of ES.
[[nodiscard]] constexpr Field segment_field(Field es, unsigned i) {
    return static_cast<Field>(static_cast<u32>(es) + 2 * i);
}

[[nodiscard]] constexpr bool is_host_field(u32 encoding) {
    return ((encoding >> 10) & 3) == 3;
}

// The bits that a field of this encoding has (SDM 3C 25.11.2).
[[nodiscard]] constexpr u64 width_mask(u32 encoding) {
    const u32 width = encoding >> 13 & 3;
    return width == 0 ? 0xffff : width == 2 ? 0xffff'ffff : ~u64{0};
}

static_assert(width_mask(0x0812) == 0xffff && width_mask(0x4002) == 0xffff'ffff &&
              width_mask(0x6802) == ~u64{0});
static_assert(segment_field(Field::guest_es_selector, 7) == Field::guest_tr_selector);
static_assert(is_host_field(0x6c16) && !is_host_field(0x681e));

namespace pin {
inline constexpr u32 external_interrupt = 1u << 0, nmi = 1u << 3, virtual_nmis = 1u << 5,
                     preemption_timer = 1u << 6, posted_interrupts = 1u << 7;
}

namespace proc {
inline constexpr u32 interrupt_window = 1u << 2, tsc_offsetting = 1u << 3, hlt = 1u << 7, invlpg = 1u << 9,
                     mwait = 1u << 10, rdpmc = 1u << 11, rdtsc = 1u << 12, cr3_load = 1u << 15,
                     cr3_store = 1u << 16, tertiary = 1u << 17, cr8_load = 1u << 19, cr8_store = 1u << 20,
                     tpr_shadow = 1u << 21, nmi_window = 1u << 22, mov_dr = 1u << 23,
                     unconditional_io = 1u << 24, io_bitmaps = 1u << 25, monitor_trap = 1u << 27,
                     msr_bitmaps = 1u << 28, monitor = 1u << 29, pause = 1u << 30, secondary = 1u << 31;
}

namespace proc2 {
inline constexpr u32 virtual_apic_accesses = 1u << 0, ept = 1u << 1, descriptor_table = 1u << 2,
                     rdtscp = 1u << 3, x2apic_mode = 1u << 4, vpid = 1u << 5, wbinvd = 1u << 6,
                     unrestricted_guest = 1u << 7, apic_registers = 1u << 8,
                     virtual_interrupt_delivery = 1u << 9, pause_loop = 1u << 10, rdrand = 1u << 11,
                     invpcid = 1u << 12, vm_functions = 1u << 13, vmcs_shadowing = 1u << 14,
                     encls_exiting_bitmap = 1u << 15, rdseed = 1u << 16, pml = 1u << 17,
                     virtualization_exceptions = 1u << 18, sub_page_rights = 1u << 23,
                     pt_guest_physical = 1u << 24, tsc_scaling = 1u << 25, pconfig = 1u << 27,
                     mode_based_execute = 1u << 22, xsaves = 1u << 20, user_wait_pause = 1u << 26;
}

namespace exit_control {
inline constexpr u32 save_debug = 1u << 2, host_address_space = 1u << 9, load_perf_global = 1u << 12,
                     clear_bndcfgs = 1u << 23, clear_rtit = 1u << 25, clear_lbr = 1u << 26,
                     clear_uinv = 1u << 27, load_cet = 1u << 28, load_pkrs = 1u << 29,
                     save_perf_global = 1u << 30, secondary = 1u << 31, ack_interrupt = 1u << 15,
                     save_pat = 1u << 18, load_pat = 1u << 19, save_efer = 1u << 20, load_efer = 1u << 21,
                     save_preemption_timer = 1u << 22;
}

namespace entry_control {
inline constexpr u32 load_debug = 1u << 2, ia32e_guest = 1u << 9, smm = 1u << 10,
                     deactivate_dual_monitor = 1u << 11, load_perf_global = 1u << 13, load_pat = 1u << 14,
                     load_efer = 1u << 15, load_bndcfgs = 1u << 16, load_rtit = 1u << 18,
                     load_uinv = 1u << 19, load_cet = 1u << 20, load_lbr = 1u << 21, load_pkrs = 1u << 22,
                     load_fred = 1u << 23;
}

// Basic exit reasons (SDM 3D appendix C) that the core names.
enum class BasicExit : u16 {
    exception_or_nmi = 0,
    external_interrupt = 1,
    triple_fault = 2,
    init = 3,
    sipi = 4,
    io_smi = 5,
    other_smi = 6,
    interrupt_window = 7,
    nmi_window = 8,
    task_switch = 9,
    cpuid = 10,
    getsec = 11,
    hlt = 12,
    invd = 13,
    invlpg = 14,
    rdpmc = 15,
    rdtsc = 16,
    rsm = 17,
    vmcall = 18,
    vmclear = 19,
    vmxon = 27,
    cr_access = 28,
    mov_dr = 29,
    io = 30,
    rdmsr = 31,
    wrmsr = 32,
    entry_guest_state = 33,
    entry_msr_load = 34,
    mwait = 36,
    monitor_trap = 37,
    monitor = 39,
    pause = 40,
    entry_machine_check = 41,
    tpr_below_threshold = 43,
    apic_access = 44,
    virtualized_eoi = 45,
    gdtr_idtr = 46,
    ldtr_tr = 47,
    ept_violation = 48,
    ept_misconfig = 49,
    invept = 50,
    rdtscp = 51,
    preemption_timer = 52,
    invvpid = 53,
    wbinvd = 54,
    xsetbv = 55,
    apic_write = 56,
    rdrand = 57,
    invpcid = 58,
    vmfunc = 59,
    encls = 60,
    rdseed = 61,
    pml_full = 62,
    xsaves = 63,
    xrstors = 64,
};

} // namespace refhv::vmx
