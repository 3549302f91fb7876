// SPDX-License-Identifier: MIT
#include "refhv/vmx/field_rules.hpp"

namespace refhv::vmx {

namespace {

constexpr FieldRule rule(u32 first, u32 last, Access access, Permit permit, u64 argument = 0) {
    return {first, last, access, permit, false, false, argument};
}
constexpr FieldRule rule(Field field, Access access, Permit permit, u64 argument = 0) {
    return rule(static_cast<u32>(field), static_cast<u32>(field), access, permit, argument);
}
constexpr FieldRule free(u32 first, u32 last) {
    return rule(first, last, Access::free, Permit::unlisted_fields);
}
constexpr FieldRule translation(FieldRule r) {
    r.translation = true;
    return r;
}
constexpr FieldRule secret(FieldRule r) {
    r.secret = true;
    return r;
}
constexpr FieldRule address(Field field, u64 bytes) {
    return rule(field, Access::memory, Permit::physical_addresses, bytes);
}

// What a request may change without making the host lose anything. Not among them: exiting by external
// interrupts and NMIs; the bitmaps in use; EPT; the host's address space, EFER and PAT at an exit; what loads
// or uses state that the core does not save (PERF_GLOBAL_CTRL, RTIT, CET, PKRS, UINV, XSS); VM functions,
// VMCS shadowing, SGX, PT, sub-page permissions.
constexpr u32 free_pin = pin::virtual_nmis | pin::preemption_timer | pin::posted_interrupts;
constexpr u32 free_proc = proc::interrupt_window | proc::tsc_offsetting | proc::hlt | proc::invlpg |
                          proc::mwait | proc::rdpmc | proc::rdtsc | proc::cr3_load | proc::cr3_store |
                          proc::cr8_load | proc::cr8_store | proc::tpr_shadow | proc::nmi_window |
                          proc::mov_dr | proc::monitor_trap | proc::monitor | proc::pause;
constexpr u32 free_proc2 = proc2::virtual_apic_accesses | proc2::descriptor_table | proc2::rdtscp |
                           proc2::x2apic_mode | proc2::vpid | proc2::wbinvd | proc2::unrestricted_guest |
                           proc2::apic_registers | proc2::virtual_interrupt_delivery | proc2::pause_loop |
                           proc2::rdrand | proc2::invpcid | proc2::rdseed | proc2::pml |
                           proc2::virtualization_exceptions | proc2::mode_based_execute | proc2::tsc_scaling |
                           proc2::user_wait_pause;
constexpr u32 free_exit = exit_control::save_debug | exit_control::ack_interrupt | exit_control::save_pat |
                          exit_control::save_efer | exit_control::save_preemption_timer;
constexpr u32 free_entry = entry_control::load_debug | entry_control::ia32e_guest | entry_control::load_pat |
                           entry_control::load_efer;
constexpr u64 free_debugctl = 3;         // LBR, BTF; not BTS, which writes to an area of the host's
constexpr u64 free_interruptibility = 3; // blocking by STI and MOV SS; that of NMIs is the CPU's own
constexpr u64 free_activity = 1;         // active, HLT; not shutdown and wait-for-SIPI (SDM 3C 25.4.2)
constexpr u64 free_ept_pointer = 0x47;   // memory type of the tables, accessed and dirty flags

// In order of the encodings.
constexpr FieldRule rules[] = {
    // 16-bit control
    rule(Field::virtual_processor_id, Access::denied, Permit::translations),
    rule(Field::posted_interrupt_vector, Access::denied, Permit::host_vectors),
    free(0x0004, 0x0004), // EPTP index: of #VE
    // 16-bit guest state: selectors, interrupt status, PML index
    free(0x0800, 0x0812),
    secret(rule(0x0c00, 0x0c0c, Access::denied, Permit::host_fields)),
    // 64-bit control
    secret(rule(0x2000, 0x2004, Access::denied, Permit::permission_maps)),
    secret(rule(0x2006, 0x200a, Access::denied, Permit::msr_lists)),
    address(Field::pml_address, page_size),
    free(0x2010, 0x2010), // TSC offset
    address(Field::virtual_apic_address, page_size),
    address(Field::apic_access_address, page_size),
    address(Field::posted_interrupt_descriptor, 64),
    rule(Field::vm_function_controls, Access::denied, Permit::world_switch),
    secret(rule(Field::ept_pointer, Access::bits, Permit::translations, free_ept_pointer)),
    free(0x201c, 0x2022),                                                     // EOI-exit bitmaps
    secret(rule(0x2024, 0x2024, Access::denied, Permit::translations)),       // EPTP list
    secret(rule(0x2026, 0x2028, Access::denied, Permit::physical_addresses)), // VMREAD and VMWRITE bitmaps
    address(Field::ve_information_address, page_size),
    free(0x202c, 0x202c), // XSS-exiting bitmap
    free(0x2032, 0x2032), // TSC multiplier
    free(0x2400, 0x2400), // guest-physical address
    // 64-bit guest state
    secret(rule(Field::vmcs_link_pointer, Access::denied, Permit::physical_addresses)),
    rule(Field::guest_debugctl, Access::bits, Permit::world_switch, free_debugctl),
    free(0x2804, 0x2804),              // PAT
    translation(free(0x2806, 0x2806)), // EFER
    translation(free(0x280a, 0x2810)), // PDPTEs
    secret(rule(0x2c00, 0x2c06, Access::denied, Permit::host_fields)),
    // 32-bit control
    rule(Field::pin_based_controls, Access::bits, Permit::interrupts, free_pin),
    translation(rule(Field::proc_based_controls, Access::bits, Permit::world_switch, free_proc)),
    translation(free(0x4004, 0x400a)), // exceptions, page-fault error codes, number of CR3 targets
    rule(Field::exit_controls, Access::bits, Permit::world_switch, free_exit),
    rule(0x400e, 0x4010, Access::denied, Permit::msr_lists),
    translation(rule(Field::entry_controls, Access::bits, Permit::world_switch, free_entry)),
    rule(Field::entry_msr_load_count, Access::denied, Permit::msr_lists),
    free(0x4016, 0x401c), // the event to inject, TPR threshold
    translation(rule(Field::secondary_controls, Access::bits, Permit::world_switch, free_proc2)),
    free(0x4020, 0x4022), // PLE
    free(0x4400, 0x440e), // exit information
    // 32-bit guest state
    free(0x4800, 0x4822), // limits, access rights
    rule(Field::guest_interruptibility, Access::bits, Permit::deaf_guests, free_interruptibility),
    rule(Field::guest_activity, Access::bits, Permit::deaf_guests, free_activity),
    free(0x482a, 0x482a), // SYSENTER_CS
    free(0x482e, 0x482e), // preemption timer
    secret(rule(0x4c00, 0x4c00, Access::denied, Permit::host_fields)),
    // natural width
    translation(free(0x6000, 0x600e)), // masks, read shadows, CR3 targets
    free(0x6400, 0x640a),              // exit information
    translation(free(0x6800, 0x6804)), // CR0, CR3, CR4
    free(0x6806, 0x6826),              // bases, DR7, RSP, RIP, RFLAGS, pending debug, SYSENTER
    secret(rule(0x6c00, 0x6c1c, Access::denied, Permit::host_fields)),
};
static_assert([] {
    for (usize i = 1; i < sizeof rules / sizeof rules[0]; ++i) {
        if (rules[i].first <= rules[i - 1].last) {
            return false;
        }
    }
    return true;
}());

constexpr FieldRule unlisted = {0, 0, Access::denied, Permit::unlisted_fields, false, true, 0};

} // namespace

const FieldRule& rule_of(u32 encoding) {
    const u32 full = encoding & ~u32{1};
    for (const FieldRule& r : rules) {
        if (full >= r.first && full <= r.last) {
            return r;
        }
    }
    return unlisted;
}

} // namespace refhv::vmx
