// SPDX-License-Identifier: MIT
// Rows for SDM 3C 27.3.1.1, 27.3.1.3 to 27.3.1.6.
#include "conformance/entry/table/vmx_tables.hpp"

namespace refhv::front::vmx_entry {

namespace {

constexpr u64 cr4_la57 = 1u << 12;
constexpr u64 beyond_the_guest = ~u64{0xff'ffff}; // bits of RIP that lead to no memory of the guest's

[[nodiscard]] std::vector<u64> pat_types() {
    return {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x16, 0x20, 0x40, 0x80, 0xff};
}

void model_specific_rows(Rows& rows) {
    const u64 without_debug = rows.base[entry_controls] & ~entry_load_debug;
    // Bits 2 and 6 to 15 of IA32_DEBUGCTL are those of features.
    for (const unsigned bit : {0u, 1u, 3u, 4u, 5u, 16u, 17u, 23u, 24u, 30u, 31u, 32u, 33u, 47u, 62u, 63u}) {
        rows.set(debugctl, u64{1} << bit);
        rows.add({{debugctl, u64{1} << bit}, {entry_controls, without_debug}});
    }
    for (unsigned bit = 0; bit < 64; ++bit) {
        rows.set(dr7, rows.base[dr7] ^ u64{1} << bit);
    }
    for (const u64 address : linear_addresses(rows.machine.linear_bits)) {
        rows.set(sysenter_esp, address);
        rows.set(sysenter_eip, address);
    }
    const u64 without_pat = rows.base[entry_controls] & ~entry_load_pat;
    for (unsigned byte = 0; byte < 8; ++byte) {
        for (const u64 type : pat_types()) {
            const u64 value = (rows.base[pat] & ~(u64{0xff} << 8 * byte)) | type << 8 * byte;
            rows.set(pat, value);
            if (byte == 3 || byte == 7) {
                rows.add({{pat, value}, {entry_controls, without_pat}});
            }
        }
    }
    rows.flip(efer, ~u64{0});
    for (unsigned bit = 0; bit < 64; bit += 7) { // not looked at
        rows.add({{efer, rows.base[efer] ^ u64{1} << bit},
                  {entry_controls, rows.base[entry_controls] & ~entry_load_efer}});
    }
    for (u64 i = 0; i < 4; ++i) {
        rows.set(efer, (rows.base[efer] & ~(efer_lme | efer_lma)) | (i & 1 ? efer_lme : 0) |
                           (i & 2 ? efer_lma : 0));
    }
    rows.set(entry_controls, rows.base[entry_controls] ^ entry_ia32e);
}

void rip_rows(Rows& rows) {
    const u64 at = rows.base[rip];
    rows.flip(rip, beyond_the_guest);
    for (const u64 address : linear_addresses(rows.machine.linear_bits)) {
        rows.set(rip, address);
    }
    for (const u64 upper : {u64{1} << 32, u64{1} << 46, u64{1} << 47, u64{0xffff} << 48, ~u64{0} << 32}) {
        rows.set(rip, at | upper);
    }
    rows.flip(rflags, ~u64{rflags_vm});
    virtual_8086_elsewhere(rows);
    for (unsigned i = 0; i < 100; ++i) {
        rows.set(rflags, (rows.random() & 0x3f'ffff & ~u64{rflags_vm}) | 2);
    }
}

} // namespace

void register_rows(Rows& rows) {
    const u64 zero = rows.base[cr0], four = rows.base[cr4];
    rows.flip(cr0, ~u64{0});
    for (u64 i = 0; i < 4; ++i) { // never checked
        rows.set(cr0, (zero & ~(cr0_cd | cr0_nw)) | (i & 1 ? cr0_cd : 0) | (i & 2 ? cr0_nw : 0));
    }
    rows.set(cr0, zero & ~(cr0_pe | cr0_pg));
    const u64 la57 = (rows.machine.cr4_fixed1 & cr4_la57) != 0 ? cr4_la57 : 0; // another walk: not here
    rows.flip(cr4, ~la57);
    rows.add({{cr4, four | cr4_cet}, {cr0, zero & ~cr0_wp}});
    rows.add({{cr4, four | cr4_cet}, {cr0, zero | cr0_wp}});
    for (unsigned i = 0; i < 60; ++i) {
        const u64 free = rows.machine.cr4_fixed1 & ~rows.machine.cr4_fixed0 & ~(la57 | cr4_cet);
        rows.set(cr4, (rows.random() & free) | rows.machine.cr4_fixed0 | cr4_pae);
        rows.set(cr0, (rows.random() & 0xe005'003f) | rows.machine.cr0_fixed0);
    }
    for (unsigned bit = 0; bit < 64; ++bit) {
        rows.set(cr3, rows.base[cr3] ^ u64{1} << bit);
    }
    rows.set(cr3, ~u64{0} << rows.machine.physical_bits);
    rows.set(cr3, (u64{1} << rows.machine.physical_bits) - 1);
    model_specific_rows(rows);
    rip_rows(rows);
}

void protected_rows(Rows& rows) {
    rows.set(cr4, rows.base[cr4] | cr4_pcide);
    for (u64 i = 0; i < 4; ++i) {
        rows.set(efer, (rows.base[efer] & ~(efer_lme | efer_lma)) | (i & 1 ? efer_lme : 0) |
                           (i & 2 ? efer_lma : 0));
    }
    rows.flip(rip, beyond_the_guest);
    for (u64 i = 0; i < 16; ++i) {
        rows.add({{cs_selector, (rows.base[cs_selector] & ~u64{3}) | (i & 3)},
                  {ss_selector, (rows.base[ss_selector] & ~u64{3}) | i >> 2}});
    }
    for (u32 segment = es; segment <= tr; ++segment) {
        for (const u64 limit : {0u, 0x67u, 0xffeu, 0xfffu, 0x1000u, 0xf'ffffu, 0x10'0000u, 0x10'0fffu,
                                0xffff'fffeu, 0xffff'ffffu, 0x8000'0fffu, 0x7fff'f000u}) {
            for (const u64 g : {u64{0}, u64{1} << 15}) {
                const u64 usable = segment == ldtr ? 0x82 : rows.base[rights_of(segment)];
                rows.add({{limit_of(segment), limit}, {rights_of(segment), (usable & ~(u64{1} << 15)) | g}});
            }
        }
    }
}

// Each reserved bit of each PDPTE, present and not.
void pae_rows(Rows& rows) {
    for (u32 i = 0; i < 4; ++i) {
        const u64 present = (rows.base[pdpte0 + 2 * i] | 1) & ~u64{0xffe};
        for (unsigned bit = 1; bit < 64; ++bit) {
            rows.set(pdpte0 + 2 * i, present | u64{1} << bit);
            rows.set(pdpte0 + 2 * i, u64{1} << bit);
        }
        rows.set(pdpte0 + 2 * i, ~u64{1});
    }
}

void non_register_rows(Rows& rows) {
    const u64 on = rows.base[rflags] | rflags_if;
    for (unsigned bit = 0; bit < 32; ++bit) {
        if (bit != 1) { // shutdown is not left by anything that these tables can count on
            rows.set(activity, u64{1} << bit);
        }
    }
    for (u64 state = 4; state < 8; ++state) {
        rows.set(activity, state);
    }
    for (u64 dpl = 0; dpl < 4; ++dpl) {
        const Change ring{{cs_selector, rows.base[cs_selector] | dpl},
                          {ss_selector, rows.base[ss_selector] | dpl},
                          {cs_rights, rows.base[cs_rights] | dpl << 5},
                          {ss_rights, rows.base[ss_rights] | dpl << 5}};
        rows.add(ring);
        Change halted = ring;
        halted.push_back({activity, 1});
        rows.add(std::move(halted));
    }
    for (u64 blocking = 0; blocking < 32; ++blocking) {
        for (const u64 flags : {on, rows.base[rflags]}) {
            rows.add({{interruptibility, blocking}, {rflags, flags}});
            for (const u64 state : {u64{1}, u64{2}, u64{3}}) {
                if (state == 1 || (blocking & (by_sti | by_mov_ss)) != 0) {
                    rows.add({{interruptibility, blocking}, {rflags, flags}, {activity, state}});
                }
            }
        }
    }
    rows.flip(interruptibility, 0xffff'ffe0);
    rows.flip(pending_debug, ~u64{0});
    for (unsigned i = 0; i < 64; ++i) { // B0 to B3 and "enabled breakpoint" with everything that holds them
        constexpr u64 bs = 1u << 14, enabled = 1u << 12;
        const u64 flags = rows.base[rflags] | (i & 1 ? rflags_tf : 0) | rflags_if;
        const u64 blocking = (i >> 3 & 3) == 1 ? by_sti : (i >> 3 & 3) == 2 ? by_mov_ss : 0;
        for (const u64 more : {u64{0}, u64{9}, enabled | 4}) {
            rows.add({{rflags, flags},
                      {debugctl, i & 2 ? u64{2} : u64{0}},
                      {pending_debug, (i & 4 ? bs : 0) | more},
                      {interruptibility, blocking},
                      {activity, (i >> 3 & 3) == 3 ? u64{1} : u64{0}}});
        }
    }
    for (const u64 low : {0x1'0000, 0x1'1000, 0x1'1001, 0x1'1008, 0x1'3000, 0x1'5000, 0x1'9000, 0x1'1010}) {
        rows.set(pending_debug, low);
        rows.add({{pending_debug, low}, {interruptibility, by_mov_ss}});
    }
    for (const u64 fault : physical_faults(12, rows.machine.physical_bits)) {
        rows.set(link_pointer, rows.pages.a | fault);
    }
    rows.set(link_pointer, ~u64{0});
    rows.set(link_pointer, ~u64{1});
    rows.set(link_pointer, ~u64{0} >> 1);
}

} // namespace refhv::front::vmx_entry
