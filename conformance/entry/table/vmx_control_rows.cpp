// SPDX-License-Identifier: MIT
// Rows for SDM 3C 27.2.
#include "conformance/entry/table/vmx_tables.hpp"

namespace refhv::front::vmx_entry {

namespace {

constexpr u64 all_32 = 0xffff'ffff;

// A field that counts only while these controls are set, and the alignment of the address in it.
struct AddressField {
    u32 field;
    unsigned alignment_bits;
    u32 controls;
    u64 bits;
};

constexpr AddressField address_fields[] = {
    {io_bitmap_a, 12, proc_controls, proc_io_bitmaps},
    {io_bitmap_b, 12, proc_controls, proc_io_bitmaps},
    {msr_bitmap, 12, proc_controls, proc_msr_bitmaps},
    {virtual_apic_address, 12, proc_controls, proc_tpr_shadow},
    {apic_access_address, 12, secondary_controls, proc2_apic_accesses},
    {pml_address, 12, secondary_controls, proc2_pml},
    {vmread_bitmap, 12, secondary_controls, proc2_shadowing},
    {vmwrite_bitmap, 12, secondary_controls, proc2_shadowing},
    {ve_information, 12, secondary_controls, proc2_ve},
    {ept_pointer, 12, secondary_controls, proc2_ept},
};

[[nodiscard]] bool is_offered(const Rows& rows, u32 field, u64 bits) {
    return field == proc_controls ? rows.machine.proc.offers(bits) : rows.machine.proc2.offers(bits);
}

void msr_area_rows(Rows& rows, u32 count, u32 address) {
    const u64 page = rows.pages.msrs, end = u64{1} << rows.machine.physical_bits;
    for (const u64 fault : physical_faults(4, rows.machine.physical_bits)) {
        rows.add({{count, 1}, {address, page | fault}});
        if (rows.below(4) == 0) {
            rows.add({{count, 0}, {address, page | fault}}); // not looked at
        }
    }
    for (const u64 entries : {u64{1}, u64{2}, u64{3}, u64{31}, u64{255}}) {
        rows.add({{count, entries}, {address, page}});
        rows.add({{count, entries + 1}, {address, end - entries * 16}}); // the last one beyond the end
    }
}

} // namespace

void control_rows(Rows& rows) {
    for (const u32 field : {pin_controls, proc_controls, secondary_controls, exit_controls, entry_controls}) {
        rows.flip(field, all_32);
    }
    // Secondary controls that are not activated are not looked at.
    for (unsigned bit = 0; bit < 32; ++bit) {
        rows.add({{proc_controls, rows.base[proc_controls] & ~proc_secondary},
                  {secondary_controls, u64{1} << bit}});
    }
    for (const u64 count : {u64{0}, u64{1}, u64{3}, u64{4}, u64{5}, u64{6}, u64{255}, u64{256}, all_32}) {
        rows.set(cr3_target_count, count);
    }
    rows.flip(cr3_target_count, all_32 & ~u64{3});
    for (u64 threshold = 0; threshold < 16; ++threshold) {
        rows.set(tpr_threshold, threshold);
        rows.add({{tpr_threshold, threshold}, {proc_controls, rows.base[proc_controls] & ~proc_tpr_shadow}});
        if (rows.offers_secondary(proc2_apic_accesses)) {
            rows.add({{tpr_threshold, threshold},
                      {apic_access_address, rows.pages.a},
                      {secondary_controls, rows.base[secondary_controls] | proc2_apic_accesses}});
        }
    }
    rows.flip(tpr_threshold, all_32 & ~u64{0xf});
    if (rows.offers_secondary(proc2_vpid)) {
        for (const u64 id : {u64{0}, u64{1}, u64{2}, u64{0x7fff}, u64{0x8000}, u64{0xffff}}) {
            rows.add({{vpid, id}, {secondary_controls, rows.base[secondary_controls] | proc2_vpid}});
            rows.add({{vpid, id}, {secondary_controls, rows.base[secondary_controls] & ~proc2_vpid}});
        }
    }
    if (rows.offers_secondary(proc2_tsc_scaling)) {
        for (const u64 multiplier : {u64{0}, u64{1}, u64{1} << 48, ~u64{0}, u64{1} << 63}) {
            rows.add({{tsc_multiplier, multiplier},
                      {secondary_controls, rows.base[secondary_controls] | proc2_tsc_scaling}});
        }
    }
    if (rows.offers_secondary(proc2_functions)) {
        for (unsigned bit = 0; bit < 64; ++bit) {
            rows.add({{function_controls, u64{1} << bit},
                      {eptp_list, rows.pages.a},
                      {secondary_controls, rows.base[secondary_controls] | proc2_functions}});
        }
    }
    if (rows.machine.pin.offers(pin_posted) && rows.offers_secondary(proc2_interrupt_delivery)) {
        for (const u64 vector :
             {0x00, 0x30, 0xff, 0x100, 0x130, 0x200, 0x400, 0x800, 0x1000, 0x8000, 0xffff}) {
            rows.add({{posted_vector, vector},
                      {posted_descriptor, rows.pages.a},
                      {pin_controls, rows.base[pin_controls] | pin_posted},
                      {exit_controls, rows.base[exit_controls] | exit_ack_interrupt},
                      {secondary_controls, rows.base[secondary_controls] | proc2_interrupt_delivery}});
        }
    }
}

void address_rows(Rows& rows) {
    for (const AddressField& f : address_fields) {
        if (!is_offered(rows, f.controls, f.bits)) {
            continue;
        }
        const u64 good = f.field == ept_pointer ? rows.base[ept_pointer] : rows.pages.a;
        const u64 with = rows.base[f.controls] | f.bits, without = rows.base[f.controls] & ~f.bits;
        const u64 alignment = f.field == ept_pointer ? 0 : f.alignment_bits;
        rows.add({{f.controls, with}, {f.field, good}});
        for (const u64 fault :
             physical_faults(static_cast<unsigned>(alignment), rows.machine.physical_bits)) {
            rows.add({{f.controls, with}, {f.field, good | fault}});
            if (rows.below(4) == 0) {
                rows.add({{f.controls, without}, {f.field, good | fault}});
            }
        }
    }
    for (u64 low = 0; low < 0x1000; low = low < 0x100 ? low + 1 : low << 1) { // type, length, flags, reserved
        rows.set(ept_pointer, (rows.base[ept_pointer] & ~u64{0xfff}) | low);
    }
    if (rows.offers_secondary(proc2_functions) && (rows.machine.functions & 1) != 0) {
        for (const u64 fault : physical_faults(12, rows.machine.physical_bits)) {
            for (const u64 function : {u64{0}, u64{1}}) {
                rows.add({{function_controls, function},
                          {eptp_list, rows.pages.a | fault},
                          {secondary_controls, rows.base[secondary_controls] | proc2_functions}});
            }
        }
    }
    if (rows.machine.pin.offers(pin_posted) && rows.offers_secondary(proc2_interrupt_delivery)) {
        auto faults = physical_faults(6, rows.machine.physical_bits);
        faults.push_back(0);
        faults.push_back(64);
        for (const u64 fault : faults) {
            rows.add({{posted_vector, 0x30},
                      {posted_descriptor, rows.pages.a | fault},
                      {pin_controls, rows.base[pin_controls] | pin_posted},
                      {exit_controls, rows.base[exit_controls] | exit_ack_interrupt},
                      {secondary_controls, rows.base[secondary_controls] | proc2_interrupt_delivery}});
        }
    }
    msr_area_rows(rows, exit_store_count, exit_store_address);
    msr_area_rows(rows, exit_load_count, exit_load_address);
    msr_area_rows(rows, entry_load_count, entry_load_address);
}

// Controls that need or exclude each other: any of them, as far as they are offered.
void combination_rows(Rows& rows) {
    const Machine& m = rows.machine;
    const u64 pin_bits =
        (pin_interrupts | pin_nmi | pin_virtual_nmis | pin_posted) & m.pin.may & ~u64{m.pin.must};
    const u64 proc_bits = (proc_tpr_shadow | proc_nmi_window) & m.proc.may & ~u64{m.proc.must};
    const u64 two_bits =
        (proc2_apic_accesses | proc2_x2apic | proc2_apic_registers | proc2_interrupt_delivery) & m.proc2.may;
    const u64 exit_bits = exit_ack_interrupt & m.exit.may;
    const auto change = [&](u64 pin, u64 proc, u64 two, u64 exit) {
        Change row{{pin_controls, (rows.base[pin_controls] & ~pin_bits) | (pin & pin_bits)},
                   {proc_controls, (rows.base[proc_controls] & ~proc_bits) | (proc & proc_bits)},
                   {secondary_controls, (rows.base[secondary_controls] & ~two_bits) | (two & two_bits)},
                   {exit_controls, (rows.base[exit_controls] & ~exit_bits) | (exit & exit_bits)}};
        if ((pin_bits & pin_posted) != 0) {
            row.push_back({posted_vector, 0x30});
            row.push_back({posted_descriptor, rows.pages.b});
        }
        if ((two_bits & proc2_apic_accesses) != 0) {
            row.push_back({apic_access_address, rows.pages.a});
        }
        rows.add(std::move(row));
    };
    for (unsigned i = 0; i < 16; ++i) { // the APIC's controls by themselves, all of them
        const u64 two = (i & 1 ? proc2_apic_accesses : 0) | (i & 2 ? proc2_x2apic : 0) |
                        (i & 4 ? proc2_apic_registers : 0) | (i & 8 ? proc2_interrupt_delivery : 0);
        change(~u64{0}, proc_tpr_shadow, two & ~u64{0}, 0);
        change(pin_interrupts | pin_nmi, 0, two, 0);
        change(pin_interrupts | pin_nmi | pin_posted, proc_tpr_shadow, two, exit_ack_interrupt);
        change(pin_nmi, proc_tpr_shadow, two, 0);
    }
    for (unsigned i = 0; i < 8; ++i) { // NMIs
        change(pin_interrupts | (i & 1 ? pin_nmi : 0) | (i & 2 ? pin_virtual_nmis : 0),
               proc_tpr_shadow | (i & 4 ? proc_nmi_window : 0), 0, 0);
    }
    for (unsigned i = 0; i < 250; ++i) {
        change(rows.random(), rows.random(), rows.random(), rows.random());
    }
    for (unsigned i = 0; i < 4; ++i) { // the preemption timer
        rows.add(
            {{pin_controls, (rows.base[pin_controls] & ~pin_timer) | (i & 1 ? pin_timer : 0)},
             {exit_controls, (rows.base[exit_controls] & ~exit_save_timer) | (i & 2 ? exit_save_timer : 0)}});
    }
    const u64 nested = (proc2_ept | proc2_unrestricted | proc2_pml | proc2_mode_based) & m.proc2.may;
    for (unsigned i = 0; i < 16; ++i) {
        const u64 two = (i & 1 ? proc2_ept : 0) | (i & 2 ? proc2_unrestricted : 0) | (i & 4 ? proc2_pml : 0) |
                        (i & 8 ? proc2_mode_based : 0);
        Change row{{secondary_controls, (rows.base[secondary_controls] & ~nested) | (two & nested)}};
        if ((nested & proc2_pml) != 0) {
            row.push_back({pml_address, rows.pages.a});
        }
        rows.add(std::move(row));
    }
}

// Wrong host state is refused; what is right here is what can be undone by the next exit.
void host_rows(Rows& rows) {
    const Machine& m = rows.machine;
    const auto linear = linear_addresses(m.linear_bits);
    const u64 required_0 = m.cr0_fixed0, reserved_0 = ~m.cr0_fixed1 & ~(cr0_cd | cr0_nw);
    const u64 required_4 = m.cr4_fixed0, reserved_4 = ~m.cr4_fixed1;
    rows.flip(host_cr0, required_0 | reserved_0);
    rows.flip(host_cr4, required_4 | reserved_4 | cr4_pae);
    for (const u64 fault : physical_faults(0, m.physical_bits)) {
        rows.set(host_cr3, rows.base[host_cr3] | fault);
    }
    for (const u64 address : linear) {
        for (const u32 field : {host_sysenter_esp, host_sysenter_eip}) {
            rows.set(field, address);
        }
        for (const u32 field :
             {host_fs_base, host_gs_base, host_tr_base, host_gdtr_base, host_idtr_base, host_rip}) {
            if (!m.is_canonical(address)) {
                rows.set(field, address);
            }
        }
    }
    for (unsigned byte = 0; byte < 8; ++byte) {
        for (const u64 type : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x20, 0x40, 0x80, 0x86, 0xff}) {
            const u64 mask = u64{0xff} << 8 * byte;
            rows.set(host_pat, (rows.base[host_pat] & ~mask) | type << 8 * byte);
        }
    }
    rows.flip(host_efer, ~u64{efer_sce | efer_nxe});
    rows.set(host_efer, rows.base[host_efer] & ~(efer_lme | efer_lma));
    for (u32 field = host_es_selector; field <= host_tr_selector; field += 2) {
        for (u64 low = 1; low < 8; ++low) {
            rows.set(field, rows.base[field] | low);
        }
        if (field == host_cs_selector || field == host_tr_selector) {
            rows.set(field, 0);
        } else if (field != host_ss_selector) {
            rows.set(field, rows.base[host_ss_selector]);
            rows.set(field, 0);
        }
    }
    rows.add({{exit_controls, rows.base[exit_controls] & ~exit_host_64},
              {host_efer, rows.base[host_efer] & ~(efer_lme | efer_lma)}});
}

} // namespace refhv::front::vmx_entry
