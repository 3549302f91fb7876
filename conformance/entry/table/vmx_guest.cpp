// SPDX-License-Identifier: MIT
// SDM 3C 27.3.1: the checks on guest registers, non-register state and PDPTEs. Segments: vmx_segments.cpp.
#include "conformance/entry/table/vmx_rules.hpp"

namespace refhv::front::vmx_entry {

bool Check::ia32e() const {
    return is(entry_controls, entry_ia32e);
}
bool Check::in_64_bit_mode() const {
    constexpr u64 code_is_64 = 1u << 13;
    return ia32e() && is(cs_rights, code_is_64);
}
bool Check::unrestricted() const {
    return (secondary() & proc2_unrestricted) != 0;
}
bool Check::injects(u64 type) const {
    return (s[vmx_entry::event] & event_valid) != 0 && (s[vmx_entry::event] >> 8 & 7) == type;
}

// 27.3.1.1. CR0.CD and CR0.NW are never checked.
void Check::control_registers() {
    const u64 zero = s[cr0], four = s[cr4];
    const u64 free = cr0_cd | cr0_nw, may_be_0 = unrestricted() ? cr0_pe | cr0_pg : 0;
    must((~zero & m.cr0_fixed0 & ~may_be_0) == 0 && (zero & ~m.cr0_fixed1 & ~free) == 0,
         Rule::cr0_fixed_bits);
    must((zero & cr0_pg) == 0 || (zero & cr0_pe) != 0, Rule::cr0_paging_without_protection);
    must((~four & m.cr4_fixed0) == 0 && (four & ~m.cr4_fixed1) == 0, Rule::cr4_fixed_bits);
    must((four & cr4_cet) == 0 || (zero & cr0_wp) != 0, Rule::cr4_cet_without_wp);
    must(!ia32e() || ((zero & cr0_pg) != 0 && (four & cr4_pae) != 0), Rule::ia32e_mode_without_paging_or_pae);
    must(ia32e() || (four & cr4_pcide) == 0, Rule::pcide_outside_ia32e_mode);
    must(m.is_physical(s[cr3]), Rule::cr3_width);
}

void Check::model_specific_registers() {
    const u64 bus_lock = m.bus_lock ? 1u << 2 : 0, transactional = m.rtm ? 1u << 15 : 0;
    constexpr u64 debugctl_bits = 0x5fc3; // LBR, BTF, TR to FREEZE_*_ON_PMI, FREEZE_WHILE_SMM
    if (is(entry_controls, entry_load_debug)) {
        must((s[debugctl] & ~(debugctl_bits | bus_lock | transactional)) == 0, Rule::debugctl_reserved_bits);
        must(s[dr7] >> 32 == 0, Rule::dr7_upper_half);
    }
    must(m.is_canonical(s[sysenter_esp]) && m.is_canonical(s[sysenter_eip]), Rule::sysenter_canonical);
    for (unsigned i = 0; is(entry_controls, entry_load_pat) && i < 8; ++i) {
        const u64 type = s[pat] >> 8 * i & 0xff;
        must(type <= 7 && type != 2 && type != 3, Rule::pat_types);
    }
    must(!is(entry_controls, entry_load_pkrs) || s[pkrs] >> 32 == 0, Rule::pkrs_upper_half);
    must(!is(entry_controls, entry_load_uinv) || s[uinv] >> 8 == 0, Rule::uinv_upper_half);
    if (is(entry_controls, entry_load_efer)) {
        const u64 known = efer_sce | efer_lme | efer_lma | (m.execute_disable ? efer_nxe : 0);
        must((s[efer] & ~known) == 0, Rule::efer_reserved_bits);
        must(is(efer, efer_lma) == ia32e(), Rule::efer_lma_is_ia32e_mode_guest);
        must(!is(cr0, cr0_pg) || is(efer, efer_lma) == is(efer, efer_lme),
             Rule::efer_lma_is_lme_under_paging);
    }
}

// 27.3.1.3.
void Check::descriptor_tables() {
    must(m.is_canonical(s[gdtr_base]) && m.is_canonical(s[idtr_base]), Rule::table_base_canonical);
    must(s[gdtr_limit] >> 16 == 0 && s[idtr_limit] >> 16 == 0, Rule::table_limit_upper_half);
}

// 27.3.1.4. In 64-bit mode bits 63:N must be alike, N being the linear width; bit N-1 may differ from them.
void Check::rip_and_rflags() {
    constexpr u64 reserved = ~u64{0x3f'ffff} | 1u << 15 | 1u << 5 | 1u << 3;
    const bool in_64 = in_64_bit_mode();
    const i64 high = static_cast<i64>(s[rip]) >> m.linear_bits;
    must(in_64 || s[rip] >> 32 == 0, Rule::rip_upper_half);
    must(!in_64 || high == 0 || high == -1, Rule::rip_bits_beyond_the_linear_width);
    must((s[rflags] & reserved) == 0 && is(rflags, 2), Rule::rflags_reserved_bits);
    must(!is(rflags, rflags_vm) || !ia32e(), Rule::rflags_vm_in_ia32e_mode);
    must(!is(rflags, rflags_vm) || is(cr0, cr0_pe), Rule::rflags_vm_without_protection);
    must(is(rflags, rflags_if) || !injects(external_interrupt), Rule::rflags_if_under_an_interrupt);
}

// 27.3.1.5.
void Check::activity() {
    const u64 state = s[vmx_entry::activity], vector = s[vmx_entry::event] & 0xff;
    enum : u64 {
        active,
        hlt,
        shutdown,
        wait_for_sipi
    };
    must(state <= 3 && (state == active || (m.misc >> (5 + state) & 1) != 0), Rule::activity_unknown);
    must(state != hlt || (s[ss_rights] >> 5 & 3) == 0, Rule::activity_hlt_outside_ring_0);
    must(state == active || (s[vmx_entry::interruptibility] & (by_sti | by_mov_ss)) == 0,
         Rule::activity_inactive_in_a_shadow);
    if ((s[vmx_entry::event] & event_valid) == 0) {
        return;
    }
    const bool exception = injects(hardware_exception);
    const bool wakes_hlt = injects(external_interrupt) || injects(nmi) ||
                           (exception && (vector == 1 || vector == 18)) || injects(other_event);
    const bool wakes_shutdown = injects(nmi) || (exception && vector == 18);
    must(state == active || state > 3 || (state == hlt && wakes_hlt) || (state == shutdown && wakes_shutdown),
         Rule::activity_blocks_the_event);
}

// An NMI under blocking by STI: "a processor may require" it to be 0. The tables leave that out.
void Check::interruptibility() {
    const u64 blocking = s[vmx_entry::interruptibility];
    const auto has = [&](u64 bit) { return (blocking & bit) != 0; };
    must(blocking >> 5 == 0, Rule::interruptibility_reserved_bits);
    must(!has(by_sti) || !has(by_mov_ss), Rule::blocking_by_sti_and_mov_ss);
    must(!has(by_sti) || is(rflags, rflags_if), Rule::blocking_by_sti_without_if);
    must(!injects(external_interrupt) || !has(by_sti | by_mov_ss), Rule::interrupt_into_a_shadow);
    must(!injects(nmi) || !has(by_mov_ss), Rule::nmi_into_blocking_by_mov_ss);
    must(!has(by_smi), Rule::blocking_by_smi);
    must(!injects(nmi) || !has(by_nmi) || !is(pin_controls, pin_virtual_nmis),
         Rule::nmi_into_virtual_nmi_blocking);
    must(!has(enclave) || (m.sgx && !has(by_mov_ss)), Rule::enclave_interruption);
}

void Check::pending_debug() {
    const u64 pending = s[vmx_entry::pending_debug];
    constexpr u64 bs = 1u << 14, rtm = 1u << 16, enabled = 1u << 12, btf = 2;
    constexpr u64 reserved = 0xff0 | 1u << 13 | 1u << 15 | ~u64{0x1'ffff};
    must((pending & reserved) == 0, Rule::pending_debug_reserved_bits);
    const bool held =
        (s[vmx_entry::interruptibility] & (by_sti | by_mov_ss)) != 0 || s[vmx_entry::activity] == 1;
    const bool steps = is(rflags, rflags_tf) && !is(debugctl, btf);
    must(!held || !steps || (pending & bs) != 0, Rule::pending_debug_bs_is_due);
    must(!held || steps || (pending & bs) == 0, Rule::pending_debug_bs_is_not_due);
    if ((pending & rtm) != 0) {
        must(m.rtm && (pending & 0xfff) == 0 && (pending & 0xe000) == 0 && (pending & enabled) != 0 &&
                 (s[vmx_entry::interruptibility] & by_mov_ss) == 0,
             Rule::pending_debug_rtm);
    }
}

// The revision of the VMCS that the link pointer names is left out: the tables name none that is one. Bits
// 2:1, 8:5 and those beyond the CPU's addresses are reserved in a PDPTE (SDM 3A table 4-8).
void Check::link_and_pdptes() {
    const u64 link = s[link_pointer];
    must(link == ~u64{0} || (link % page_size == 0 && m.is_physical(link)), Rule::link_pointer_address);
    if (!is(cr0, cr0_pg) || !is(cr4, cr4_pae) || ia32e() || (secondary() & proc2_ept) == 0) {
        return;
    }
    for (u32 i = 0; i < 4; ++i) {
        const u64 entry = s[pdpte0 + 2 * i];
        must((entry & 1) == 0 || ((entry & 0x1e6) == 0 && m.is_physical(entry)), Rule::pdpte_reserved_bits);
    }
}

} // namespace refhv::front::vmx_entry
