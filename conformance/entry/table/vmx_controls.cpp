// SPDX-License-Identifier: MIT
// SDM 3C 27.2: the checks on VMX controls and on the host-state area.
#include "conformance/entry/table/vmx_rules.hpp"

namespace refhv::front::vmx_entry {

u64 Check::secondary() const {
    return is(proc_controls, proc_secondary) ? s[secondary_controls] : 0;
}

// 27.2.1.1, as far as it is about single fields.
void Check::controls() {
    must(m.pin.takes(s[pin_controls]), Rule::pin_controls);
    must(m.proc.takes(s[proc_controls]), Rule::processor_controls);
    must(m.proc2.takes(secondary()) || !is(proc_controls, proc_secondary), Rule::secondary_controls);
    must((s[tertiary_controls] & ~m.proc3) == 0 || !is(proc_controls, proc_tertiary),
         Rule::tertiary_controls);
    must(s[cr3_target_count] <= (m.misc >> 16 & 0x1ff), Rule::cr3_target_count);
}

void Check::processor_controls() {
    must(!is(proc_controls, proc_io_bitmaps) || (is_page(io_bitmap_a) && is_page(io_bitmap_b)),
         Rule::io_bitmap_addresses);
    must(!is(proc_controls, proc_msr_bitmaps) || is_page(msr_bitmap), Rule::msr_bitmap_address);
    must(is(pin_controls, pin_nmi) || !is(pin_controls, pin_virtual_nmis),
         Rule::virtual_nmis_without_nmi_exiting);
    must(is(pin_controls, pin_virtual_nmis) || !is(proc_controls, proc_nmi_window),
         Rule::nmi_window_without_virtual_nmis);
    must((secondary() & proc2_vpid) == 0 || s[vpid] != 0, Rule::vpid_zero);
    must((secondary() & proc2_tsc_scaling) == 0 || s[tsc_multiplier] != 0, Rule::tsc_multiplier_zero);
    const bool functions = (secondary() & proc2_functions) != 0;
    must(!functions || (s[function_controls] & ~m.functions) == 0, Rule::vm_function_controls);
    must(!functions || (s[function_controls] & 1) == 0 || is_page(eptp_list), Rule::eptp_list_address);
    must((secondary() & proc2_shadowing) == 0 || (is_page(vmread_bitmap) && is_page(vmwrite_bitmap)),
         Rule::vmcs_shadowing_bitmaps);
    must((secondary() & proc2_ve) == 0 || is_page(ve_information), Rule::virtualization_exception_address);
}

void Check::apic_controls() {
    const u64 two = secondary();
    const bool shadow = is(proc_controls, proc_tpr_shadow);
    const bool delivery = (two & proc2_interrupt_delivery) != 0, accesses = (two & proc2_apic_accesses) != 0;
    constexpr u64 need_shadow = proc2_x2apic | proc2_apic_registers | proc2_interrupt_delivery;
    must(!shadow || is_page(virtual_apic_address), Rule::virtual_apic_address);
    must(!shadow || delivery || s[tpr_threshold] >> 4 == 0, Rule::tpr_threshold_reserved_bits);
    must(!shadow || delivery || accesses || (s[tpr_threshold] & 0xf) <= virtual_task_priority,
         Rule::tpr_threshold_above_vtpr);
    must(shadow || (two & need_shadow) == 0, Rule::apic_controls_without_tpr_shadow);
    must(!accesses || is_page(apic_access_address), Rule::apic_access_address);
    must((two & proc2_x2apic) == 0 || !accesses, Rule::x2apic_mode_with_apic_accesses);
    must(!delivery || is(pin_controls, pin_interrupts), Rule::interrupt_delivery_without_interrupt_exiting);
    if (is(pin_controls, pin_posted)) {
        must(delivery && is(exit_controls, exit_ack_interrupt),
             Rule::posted_interrupts_without_their_controls);
        must(s[posted_vector] >> 8 == 0, Rule::posted_interrupt_vector);
        must(s[posted_descriptor] % 64 == 0 && m.is_physical(s[posted_descriptor]),
             Rule::posted_interrupt_descriptor);
    }
}

void Check::ept_controls() {
    const u64 two = secondary();
    const bool on = (two & proc2_ept) != 0;
    must(on || (two & proc2_pml) == 0, Rule::page_modification_log_without_ept);
    must((two & proc2_pml) == 0 || is_page(pml_address), Rule::page_modification_log_address);
    must(on || (two & proc2_unrestricted) == 0, Rule::unrestricted_guest_without_ept);
    must(on || (two & proc2_mode_based) == 0, Rule::mode_based_execute_without_ept);
    if (!on) {
        return;
    }
    const u64 pointer = s[ept_pointer], type = pointer & 7, length = pointer >> 3 & 7;
    const auto capable = [&](unsigned bit) { return (m.ept_vpid >> bit & 1) != 0; };
    const bool good_type = (type == 0 && capable(8)) || (type == 6 && capable(14));
    const bool good_length = (length == 3 && capable(6)) || (length == 4 && capable(7));
    const bool good_flags = (pointer & 1u << 6) == 0 || capable(21);
    const bool good_shadow_stack = (pointer & 1u << 7) == 0 || capable(23);
    must(good_type && good_length && good_flags && good_shadow_stack && (pointer & 0xf00) == 0 &&
             m.is_physical(pointer),
         Rule::ept_pointer);
}

// 16 bytes an entry; neither the first byte nor the last may lie beyond the CPU's addresses.
void Check::msr_area(u32 count, u32 address, Rule rule) {
    const u64 first = s[address], bytes = s[count] * 16;
    must(bytes == 0 || (first % 16 == 0 && m.is_physical(first) && m.is_physical(first + bytes - 1)), rule);
}

void Check::exit_and_entry_controls() {
    must(m.exit.takes(s[exit_controls]), Rule::exit_controls);
    must(is(pin_controls, pin_timer) || !is(exit_controls, exit_save_timer),
         Rule::save_preemption_timer_without_timer);
    msr_area(exit_store_count, exit_store_address, Rule::exit_msr_store_address);
    msr_area(exit_load_count, exit_load_address, Rule::exit_msr_load_address);
    msr_area(entry_load_count, entry_load_address, Rule::entry_msr_load_address);
    must(m.entry.takes(s[entry_controls]), Rule::entry_controls);
    must((s[entry_controls] & (entry_smm | entry_dual_monitor)) == 0, Rule::entry_to_smm); // we are outside
}

// 27.2.1.3, "fields relevant to VM-entry event injection".
void Check::event() {
    const u64 info = s[vmx_entry::event];
    if ((info & event_valid) == 0) {
        return;
    }
    const u64 vector = info & 0xff, type = info >> 8 & 7;
    const bool has_error = (info & event_delivers_error) != 0;
    must(type != reserved_type && (type != other_event || m.proc.offers(proc_monitor_trap)),
         Rule::event_type);
    must((type != nmi || vector == 2) && (type != hardware_exception || vector <= 31) &&
             (type != other_event || vector == 0),
         Rule::event_vector);
    const bool protected_guest = is(cr0, cr0_pe);
    constexpr u64 pushing = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17;
    const bool pushes = vector < 32 && (pushing >> vector & 1) != 0;
    if (type != hardware_exception) {
        must(!has_error, Rule::event_error_code_with_no_exception);
    } else if (!protected_guest) {
        must(!has_error, Rule::event_error_code_in_real_mode);
    } else if (!m.any_error_code && vector <= 31) {
        must(has_error || !pushes, Rule::event_error_code_is_due);
        must(!has_error || pushes, Rule::event_error_code_is_not_due);
    }
    must((info & 0x7fff'f000) == 0, Rule::event_reserved_bits);
    must(!has_error || s[event_error] >> 16 == 0, Rule::event_error_code_width);
    if (type == software_interrupt || type == privileged_software || type == software_exception) {
        must(s[event_length] <= 15, Rule::event_length_above_15);
        must(s[event_length] != 0 || (m.misc >> 30 & 1) != 0, Rule::event_length_0);
    }
}

// 27.2.2 to 27.2.4; the host runs in 64-bit mode.
void Check::host() {
    constexpr u64 unchecked = cr0_cd | cr0_nw;
    const u64 zero = s[host_cr0], four = s[host_cr4];
    must((zero & m.cr0_fixed0) == m.cr0_fixed0 && (zero & ~m.cr0_fixed1 & ~unchecked) == 0, Rule::host_cr0);
    must((four & m.cr4_fixed0) == m.cr4_fixed0 && (four & ~m.cr4_fixed1) == 0, Rule::host_cr4);
    must(m.is_physical(s[host_cr3]), Rule::host_cr3_width);
    must(m.is_canonical(s[host_sysenter_esp]) && m.is_canonical(s[host_sysenter_eip]), Rule::host_sysenter);
    const bool to_64 = is(exit_controls, exit_host_64);
    if (is(exit_controls, exit_load_pat)) {
        for (unsigned i = 0; i < 8; ++i) {
            const u64 type = s[host_pat] >> 8 * i & 0xff;
            must(type <= 7 && type != 2 && type != 3, Rule::host_pat);
        }
    }
    if (is(exit_controls, exit_load_efer)) {
        const u64 known = efer_sce | efer_lme | efer_lma | (m.execute_disable ? efer_nxe : 0);
        must((s[host_efer] & ~known) == 0, Rule::host_efer_reserved_bits);
        must(is(host_efer, efer_lma) == to_64 && is(host_efer, efer_lme) == to_64, Rule::host_efer_mode);
    }
    must(!is(exit_controls, exit_load_pkrs) || s[host_pkrs] >> 32 == 0, Rule::host_pkrs_upper_half);
    for (u32 field = host_es_selector; field <= host_tr_selector; field += 2) {
        must((s[field] & 7) == 0, Rule::host_selector_rpl_and_ti);
    }
    must(s[host_cs_selector] != 0 && s[host_tr_selector] != 0 && (s[host_ss_selector] != 0 || to_64),
         Rule::host_null_selector);
    for (const u32 field : {host_fs_base, host_gs_base, host_gdtr_base, host_idtr_base, host_tr_base}) {
        must(m.is_canonical(s[field]), Rule::host_base_canonical);
    }
    must(to_64, Rule::host_address_space_size);
    must(m.is_canonical(s[host_rip]), Rule::host_rip_canonical);
    must((four & cr4_pae) != 0, Rule::host_cr4_pae);
}

} // namespace refhv::front::vmx_entry
