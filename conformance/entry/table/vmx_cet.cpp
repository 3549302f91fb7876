// SPDX-License-Identifier: MIT
// The checks on CET state: SDM 3C 27.2.2 and 27.2.4, of the host; 27.3.1.1 and 27.3.1.4, of the guest. That
// CR4.CET needs CR0.WP is among the control registers' checks for the guest, and here for the host.
#include "conformance/entry/table/vmx_rules.hpp"

namespace refhv::front::vmx_entry {

bool Check::tracks_and_suppresses(u32 field) const {
    return is(field, s_cet_suppress | s_cet_tracker);
}

void Check::host_cet_state() {
    must(!is(host_cr4, cr4_cet) || is(host_cr0, cr0_wp), Rule::host_cr4_cet_without_wp);
    if (!is(exit_controls, exit_load_cet)) {
        return;
    }
    must((s[host_s_cet] & s_cet_reserved) == 0, Rule::host_s_cet_reserved_bits);
    must(!tracks_and_suppresses(host_s_cet), Rule::host_s_cet_suppress_and_tracker);
    must(m.is_canonical(s[host_s_cet]), Rule::host_s_cet_canonical);
    must((s[host_ssp] & 3) == 0, Rule::host_ssp_alignment);
    must(m.is_canonical(s[host_ssp]), Rule::host_ssp_canonical); // the host runs in 64-bit mode
    must(m.is_canonical(s[host_interrupt_ssp_table]), Rule::host_interrupt_ssp_table_canonical);
}

// SSP as RIP: outside 64-bit mode 63:32 are 0 (27.3.2.3 says it of both); in it 63:N are alike, N being the
// linear width, and bit N-1 may differ from them.
void Check::cet_state() {
    if (!is(entry_controls, entry_load_cet)) {
        return;
    }
    must((s[s_cet] & s_cet_reserved) == 0, Rule::s_cet_reserved_bits);
    must(!tracks_and_suppresses(s_cet), Rule::s_cet_suppress_and_tracker);
    must(m.is_canonical(s[s_cet]), Rule::s_cet_canonical);
    must(m.is_canonical(s[interrupt_ssp_table]), Rule::interrupt_ssp_table_canonical);
    const i64 high = static_cast<i64>(s[ssp]) >> m.linear_bits;
    must((s[ssp] & 3) == 0, Rule::ssp_alignment);
    must(in_64_bit_mode() || s[ssp] >> 32 == 0, Rule::ssp_upper_half);
    must(!in_64_bit_mode() || high == 0 || high == -1, Rule::ssp_bits_beyond_the_linear_width);
}

} // namespace refhv::front::vmx_entry
