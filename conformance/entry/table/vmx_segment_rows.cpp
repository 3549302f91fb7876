// SPDX-License-Identifier: MIT
// Rows for SDM 3C 27.3.1.2: access rights in all their combinations.
#include "conformance/entry/table/vmx_tables.hpp"

namespace refhv::front::vmx_entry {

namespace {

constexpr u64 g_bit = 1u << 15;

[[nodiscard]] bool is_long(const Rows& rows) {
    return (rows.base[entry_controls] & entry_ia32e) != 0;
}

// Type, S, DPL, P, and now and then "unusable", with CS and TR each time; the DPL of TR and LDTR, which no
// rule is about, AVL, L and D/B at random; G as the limit wants it. Outside long mode half of the data
// segments'.
void all_rights(Rows& rows, u32 segment) {
    const u64 limit = rows.base[limit_of(segment)];
    const u64 g = (limit & 0xfff) == 0xfff && limit > 0xfffff ? g_bit : 0;
    const bool system = segment == tr || segment == ldtr;
    for (u64 i = 0; i < 512; ++i) {
        const bool unusable = i >= 256 && segment != cs && segment != tr;
        const bool thinned = !is_long(rows) && segment != cs && segment != ss && rows.below(2) != 0;
        if ((unusable && rows.below(8) != 0) || (system && (i >> 5 & 3) != rows.below(4)) || thinned) {
            continue;
        }
        const u64 extra = rows.random() & 0x7000;
        const u64 avl_only = segment == cs ? (rows.base[cs_rights] & 0x6000) | (extra & 0x1000) : extra;
        rows.set(rights_of(segment), (i & 0xff) | (i >> 8) << 16 | avl_only | g);
    }
}

void reserved_rights(Rows& rows, u32 segment) {
    const u64 usable = segment == ldtr ? 0x82 : rows.base[rights_of(segment)];
    for (unsigned bit = 8; bit < 32; ++bit) {
        if (bit < 12 || bit > 16) {
            rows.set(rights_of(segment), usable | u64{1} << bit);
            rows.set(rights_of(segment), usable | unusable_bit | u64{1} << bit);
        }
    }
}

// CS and SS together: type of CS, DPL and RPL; L and D/B at random.
void add_rings(Rows& rows) {
    for (const u64 type : {3, 9, 11, 13, 15}) {
        for (u64 i = 0; i < 64; ++i) {
            const u64 cs_dpl = i & 3, ss_dpl = i >> 2 & 3, rpl = i >> 4;
            const u64 l_d = rows.below(4) << 13;
            rows.add({{cs_selector, (rows.base[cs_selector] & ~u64{3}) | rpl},
                      {ss_selector, (rows.base[ss_selector] & ~u64{3}) | rpl},
                      {cs_rights, (rows.base[cs_rights] & ~u64{0x606f}) | type | cs_dpl << 5 | l_d},
                      {ss_rights, (rows.base[ss_rights] & ~u64{0x60}) | ss_dpl << 5}});
        }
    }
}

// DPL against RPL for every type.
void data_privileges(Rows& rows) {
    for (const u32 segment : {ds, es, fs, gs}) {
        for (const u64 type : {1, 3, 5, 7, 11, 15}) {
            for (u64 i = 0; i < 16; ++i) {
                rows.add({{selector_of(segment), (rows.base[selector_of(segment)] & ~u64{3}) | (i & 3)},
                          {rights_of(segment),
                           (rows.base[rights_of(segment)] & ~u64{0x6f}) | type | (i >> 2) << 5}});
            }
        }
    }
}

} // namespace

void rights_rows(Rows& rows) {
    for (u32 segment = es; segment <= tr; ++segment) {
        all_rights(rows, segment);
        reserved_rights(rows, segment);
    }
    for (u64 i = 0; i < 16; ++i) { // L and D/B, with every type that CS may have
        const u64 types[] = {9, 11, 13, 15};
        rows.set(cs_rights, (rows.base[cs_rights] & ~u64{0x600f}) | types[i & 3] | (i >> 2) << 13);
    }
    add_rings(rows);
    data_privileges(rows);
}

void ring_rows(Rows& rows) {
    add_rings(rows);
}

void unrestricted_rows(Rows& rows) {
    for (const u32 segment : {cs, ss, fs}) {
        all_rights(rows, segment);
    }
    data_privileges(rows);
}

void segment_rows(Rows& rows) {
    const auto linear = linear_addresses(rows.machine.linear_bits);
    for (u32 segment = es; segment <= tr; ++segment) {
        for (const u64 low : {0, 1, 2, 3, 4, 5, 6, 7}) {
            rows.set(selector_of(segment), (rows.base[selector_of(segment)] & ~u64{7}) | low);
        }
        for (const u64 selector : {0, 4, 0xfff8, 0xfffc, 0x8000}) {
            rows.set(selector_of(segment), selector);
            if (segment == ldtr) {
                rows.add({{ldtr_selector, selector}, {ldtr_rights, 0x82}});
            }
        }
        const u64 usable = segment == ldtr ? 0x82 : rows.base[rights_of(segment)];
        for (const u64 address : linear) {
            rows.add({{base_of(segment), address}, {rights_of(segment), usable}});
            if (segment != tr && rows.below(3) == 0) {
                rows.add({{base_of(segment), address}, {rights_of(segment), usable | unusable_bit}});
            }
        }
        for (unsigned bit = 31; bit < 64; ++bit) {
            if (is_alike_in_48_bits(u64{1} << bit, rows.machine.linear_bits)) {
                rows.add({{base_of(segment), u64{1} << bit}, {rights_of(segment), usable}});
            }
        }
        for (u64 limit = 1; limit <= 0x8000'0000; limit <<= 1) {
            for (const u64 value : {limit, limit - 1, 0xffff'ffff & ~limit}) {
                const u64 g = rows.below(2) != 0 ? g_bit : 0;
                rows.add({{limit_of(segment), value}, {rights_of(segment), (usable & ~g_bit) | g}});
            }
        }
    }
    for (const u64 address : linear) {
        rows.set(gdtr_base, address);
        rows.set(idtr_base, address);
    }
    for (const u32 field : {gdtr_limit, idtr_limit}) {
        rows.flip(field, 0xffff'ffff);
        rows.set(field, 0xffff);
        rows.set(field, 0x1'0000);
        rows.set(field, 0xffff'ffff);
    }
}

// All that virtual-8086 mode asks for but the mode itself.
void virtual_8086_elsewhere(Rows& rows) {
    Change change{{rflags, rows.base[rflags] | rflags_vm}};
    for (u32 segment = es; segment <= gs; ++segment) {
        change.push_back({selector_of(segment), 0x1000});
        change.push_back({base_of(segment), 0x1'0000});
        change.push_back({limit_of(segment), 0xffff});
        change.push_back({rights_of(segment), 0xf3});
    }
    rows.add(std::move(change));
}

void virtual_8086_rows(Rows& rows) {
    for (u32 segment = es; segment <= gs; ++segment) {
        rows.flip(rights_of(segment), 0xffff'ffff);
        rows.flip(limit_of(segment), 0xffff'ffff);
        rows.flip(base_of(segment), ~u64{0});
        rows.flip(selector_of(segment), 0xffff);
        for (const u64 selector : {0, 1, 0xf000, 0xffff}) {
            rows.add({{selector_of(segment), selector}, {base_of(segment), selector << 4}});
        }
    }
    for (const u32 field : {tr_rights, ldtr_rights}) {
        rows.flip(field, 0xffff'ffff);
    }
    for (u64 flags = 0; flags < 64; ++flags) { // IOPL, IF, TF, NT, AC
        rows.set(rflags, rows.base[rflags] | (flags & 1 ? rflags_if : 0) | (flags & 2 ? rflags_tf : 0) |
                             (flags >> 2 & 3) << 12 | (flags & 16 ? 1u << 14 : 0) |
                             (flags & 32 ? 1u << 18 : 0));
    }
}

void real_rows(Rows& rows) {
    for (const u32 segment : {cs, ss, ds, gs, ldtr, tr}) {
        all_rights(rows, segment);
    }
    rows.flip(cr0, cr0_pe | cr0_pg | 0x2e);
    virtual_8086_elsewhere(rows);
    rows.set(cr0, rows.base[cr0] | cr0_pg);
}

void mixture_rows(Rows& rows) {
    std::vector<Change> single;
    for (const auto fill : {register_rows, segment_rows, rights_rows, non_register_rows, event_rows}) {
        Rows part(rows.base, rows.machine, rows.pages);
        fill(part);
        for (Change& change : part.take()) {
            single.push_back(std::move(change));
        }
    }
    for (unsigned i = 0; i < 700; ++i) {
        Change mixed = rows.one_of(single);
        for (u64 more = 1 + rows.below(3); more != 0; --more) {
            for (const FieldValue& f : rows.one_of(single)) {
                if (std::none_of(mixed.begin(), mixed.end(),
                                 [&](const FieldValue& g) { return g.field == f.field; })) {
                    mixed.push_back(f);
                }
            }
        }
        rows.add(std::move(mixed));
    }
}

} // namespace refhv::front::vmx_entry
