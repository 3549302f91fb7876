// SPDX-License-Identifier: MIT
// SDM 3C 27.3.1.2: the checks on guest segment registers.
#include "conformance/entry/table/vmx_rules.hpp"

namespace refhv::front::vmx_entry {

namespace {

constexpr u64 upper_half = ~u64{0xffff'ffff};
constexpr u64 reserved_bits = 0xf00 | (upper_half | 0xfffe'0000);

u64 type_of(u64 rights) {
    return rights & 15;
}
bool s_of(u64 rights) {
    return (rights & 0x10) != 0;
}
u64 dpl_of(u64 rights) {
    return rights >> 5 & 3;
}
bool is_present(u64 rights) {
    return (rights & 0x80) != 0;
}

} // namespace

bool Check::usable(u32 segment) const {
    return !is(rights_of(segment), unusable_bit);
}
bool Check::will_be_virtual_8086() const {
    return is(rflags, rflags_vm);
}

// G must be 0 if any of the limit's bits 11:0 is 0, and 1 if any of its bits 31:20 is 1.
bool Check::granularity_fits(u32 segment) const {
    const u64 limit = s[limit_of(segment)];
    const bool g = (s[rights_of(segment)] >> 15 & 1) != 0;
    return !(g && (limit & 0xfff) != 0xfff) && !(!g && limit >> 20 != 0);
}

void Check::segments() {
    must((s[tr_selector] & 4) == 0, Rule::tr_selector_ti);
    must(!usable(ldtr) || (s[ldtr_selector] & 4) == 0, Rule::ldtr_selector_ti);
    must(will_be_virtual_8086() || (s[ss_selector] & 3) == (s[cs_selector] & 3), Rule::ss_rpl_is_cs_rpl);
    for (const u32 segment : {tr, fs, gs, ldtr}) {
        must((segment == ldtr && !usable(ldtr)) || m.is_canonical(s[base_of(segment)]),
             Rule::segment_base_canonical);
    }
    for (const u32 segment : {cs, ss, ds, es}) {
        must((segment != cs && !usable(segment)) || (s[base_of(segment)] & upper_half) == 0,
             Rule::segment_base_upper_half);
    }
    task_register();
    local_descriptor_table();
    if (will_be_virtual_8086()) {
        virtual_8086();
        return;
    }
    code_segment();
    stack_segment();
    data_segments();
    for (u32 segment = es; segment <= gs; ++segment) {
        segment_bits(segment);
    }
}

void Check::virtual_8086() {
    for (u32 segment = es; segment <= gs; ++segment) {
        must(s[base_of(segment)] == s[selector_of(segment)] << 4, Rule::virtual_8086_base);
        must(s[limit_of(segment)] == 0xffff, Rule::virtual_8086_limit);
        must(s[rights_of(segment)] == 0xf3, Rule::virtual_8086_rights);
    }
}

void Check::code_segment() {
    const u64 rights = s[cs_rights], type = type_of(rights), dpl = dpl_of(rights),
              ss_dpl = dpl_of(s[ss_rights]);
    const bool accessed_code = type == 9 || type == 11 || type == 13 || type == 15;
    must(accessed_code || type == 3, Rule::cs_type);
    must(type != 3 || unrestricted(), Rule::cs_type_3_in_a_restricted_guest);
    must(type != 3 || dpl == 0, Rule::cs_dpl_of_type_3);
    must((type != 9 && type != 11) || dpl == ss_dpl, Rule::cs_dpl_not_conforming);
    must((type != 13 && type != 15) || dpl <= ss_dpl, Rule::cs_dpl_conforming);
    constexpr u64 l_and_d = 3u << 13;
    must(!ia32e() || (rights & l_and_d) != l_and_d, Rule::cs_l_and_d);
}

// The DPL counts whether SS is usable or not.
void Check::stack_segment() {
    const u64 rights = s[ss_rights], type = type_of(rights), dpl = dpl_of(rights);
    must(!usable(ss) || type == 3 || type == 7, Rule::ss_type);
    must(unrestricted() || dpl == (s[ss_selector] & 3), Rule::ss_dpl_is_rpl);
    must(dpl == 0 || (type_of(s[cs_rights]) != 3 && is(cr0, cr0_pe)),
         Rule::ss_dpl_0_without_protection_or_with_type_3);
}

void Check::data_segments() {
    for (const u32 segment : {ds, es, fs, gs}) {
        if (!usable(segment)) {
            continue;
        }
        const u64 rights = s[rights_of(segment)], type = type_of(rights);
        must((type & 1) != 0, Rule::data_segment_not_accessed);
        must((type & 8) == 0 || (type & 2) != 0, Rule::data_segment_of_unreadable_code);
        must(unrestricted() || type > 11 || dpl_of(rights) >= (s[selector_of(segment)] & 3),
             Rule::data_segment_dpl_below_rpl);
    }
}

// What CS, and every other that is usable, must have.
void Check::segment_bits(u32 segment) {
    if (segment != cs && !usable(segment)) {
        return;
    }
    const u64 rights = s[rights_of(segment)];
    must(s_of(rights), Rule::segment_s);
    must(is_present(rights), Rule::segment_not_present);
    must((rights & reserved_bits) == 0, Rule::segment_reserved_bits);
    must(granularity_fits(segment), Rule::segment_granularity);
}

void Check::task_register() {
    const u64 rights = s[tr_rights], type = type_of(rights);
    must(type == 11 || (type == 3 && !ia32e()), Rule::tr_type);
    must(!s_of(rights), Rule::tr_s);
    must(is_present(rights), Rule::tr_not_present);
    must((rights & reserved_bits) == 0, Rule::tr_reserved_bits);
    must(granularity_fits(tr), Rule::tr_granularity);
    must(usable(tr), Rule::tr_unusable);
}

void Check::local_descriptor_table() {
    if (!usable(ldtr)) {
        return;
    }
    const u64 rights = s[ldtr_rights];
    must(type_of(rights) == 2, Rule::ldtr_type);
    must(!s_of(rights), Rule::ldtr_s);
    must(is_present(rights), Rule::ldtr_not_present);
    must((rights & reserved_bits) == 0, Rule::ldtr_reserved_bits);
    must(granularity_fits(ldtr), Rule::ldtr_granularity);
}

} // namespace refhv::front::vmx_entry
