// SPDX-License-Identifier: MIT
#include "conformance/entry/table/svm_rules.hpp"

#include <algorithm>
#include <iterator>

namespace refhv::front::svm_entry {

namespace {

constexpr const char* names[] = {
#define RULE(name, section) #name,
#include "conformance/entry/table/svm_rules.inc"
#undef RULE
};
static_assert(std::size(names) == static_cast<usize>(Rule::count_));

struct FieldInfo {
    u32 field;
    u16 width;
    const char* name;
    u64 State::*in_state;
};

constexpr FieldInfo known[] = {
    {intercept_2, 4, "intercepts at 010h", &State::intercept_2},
    {io_map, 8, "IOPM_BASE_PA", &State::io_map},
    {msr_map, 8, "MSRPM_BASE_PA", &State::msr_map},
    {asid, 4, "ASID", &State::asid},
    {event, 8, "EVENTINJ", &State::event},
    {cs_attributes, 2, "CS attributes", &State::cs_attributes},
    {efer, 8, "EFER", &State::efer},
    {cr4, 8, "CR4", &State::cr4},
    {cr3, 8, "CR3", &State::cr3},
    {cr0, 8, "CR0", &State::cr0},
    {dr7, 8, "DR7", &State::dr7},
    {dr6, 8, "DR6", &State::dr6},
    {cr_intercepts, 4, "CR intercepts", nullptr},
    {dr_intercepts, 4, "DR intercepts", nullptr},
    {intercept_1, 4, "intercepts at 00Ch", nullptr},
    {intercept_3, 4, "intercepts at 014h", nullptr},
    {tsc_offset, 8, "TSC_OFFSET", nullptr},
    {interrupt_control, 8, "interrupt control", nullptr},
    {interrupt_shadow, 8, "interrupt shadow", nullptr},
    {cpl, 1, "CPL", nullptr},
    {rflags, 8, "RFLAGS", nullptr},
    {rip, 8, "RIP", nullptr},
    {rsp, 8, "RSP", nullptr},
    {rax, 8, "RAX", nullptr},
};

const FieldInfo* info_of(u32 field) {
    const auto* const at = std::find_if(std::begin(known), std::end(known),
                                        [&](const FieldInfo& f) { return f.field == field; });
    return at != std::end(known) ? at : nullptr;
}

constexpr const char* segment_names[] = {"ES", "CS", "SS", "DS", "FS", "GS", "GDTR", "LDTR", "IDTR", "TR"};

} // namespace

u16 width_of(u32 field) {
    if (const FieldInfo* const info = info_of(field); info != nullptr) {
        return info->width;
    }
    const u32 part = (field - segments) % segment_bytes;
    return part == base_at ? 8 : part == limit_at ? 4 : 2;
}

std::string name_of_field(u32 field) {
    if (const FieldInfo* const info = info_of(field); info != nullptr) {
        return info->name;
    }
    const u32 part = (field - segments) % segment_bytes;
    const char* const what = part == base_at         ? " base"
                             : part == limit_at      ? " limit"
                             : part == attributes_at ? " attributes"
                                                     : " selector";
    return std::string(segment_names[(field - segments) / segment_bytes % segment_count]) + what;
}

const char* name_of(Rule rule) {
    return names[static_cast<usize>(rule)];
}

const std::vector<u32>& State::fields() {
    static const std::vector<u32> all = [] {
        std::vector<u32> fields;
        for (const FieldInfo& f : known) {
            if (f.in_state != nullptr) {
                fields.push_back(f.field);
            }
        }
        return fields;
    }();
    return all;
}

State State::with(const Change& change) const {
    State changed = *this;
    for (const FieldValue& f : change) {
        if (const FieldInfo* const info = info_of(f.field); info != nullptr && info->in_state != nullptr) {
            const u64 mask = info->width == 8 ? ~u64{0} : (u64{1} << 8 * info->width) - 1;
            changed.*info->in_state = f.value & mask;
        }
    }
    return changed;
}

std::vector<Rule> broken_rules(const State& s, const Machine& m) {
    std::vector<Rule> broken;
    const auto must = [&](bool holds, Rule rule) {
        if (!holds) {
            broken.push_back(rule);
        }
    };
    const u64 end = u64{1} << m.physical_bits;
    const auto fits = [&](u64 map, u64 bytes) {
        return (map & ~u64{0xfff}) < end && (map & ~u64{0xfff}) + bytes <= end;
    };
    const bool long_mode = (s.efer & efer_lme) != 0 && (s.cr0 & cr0_pg) != 0;
    constexpr u64 l_and_d = attribute_l | attribute_d;
    must((s.efer & efer_svme) != 0, Rule::efer_svme_clear);
    must((s.efer & efer_reserved) == 0, Rule::efer_reserved_bits);
    must((s.cr0 & cr0_cd) != 0 || (s.cr0 & cr0_nw) == 0, Rule::cr0_nw_without_cd);
    must(s.cr0 >> 32 == 0, Rule::cr0_upper_half);
    must((s.cr3 & cr3_reserved) == 0, Rule::cr3_reserved_bits);
    must((s.cr4 & cr4_reserved) == 0, Rule::cr4_reserved_bits);
    must((s.cr4 & cr4_optional & ~m.cr4_features) == 0, Rule::cr4_bits_of_absent_features);
    must((s.cr4 & cr4_cet) == 0 || (s.cr0 & cr0_wp) != 0, Rule::cr4_cet_without_wp);
    must(s.dr6 >> 32 == 0, Rule::dr6_upper_half);
    must(s.dr7 >> 32 == 0, Rule::dr7_upper_half);
    must(!long_mode || (s.cr4 & cr4_pae) != 0, Rule::long_mode_without_pae);
    must(!long_mode || (s.cr0 & cr0_pe) != 0, Rule::long_mode_without_protection);
    must(!long_mode || (s.cr4 & cr4_pae) == 0 || (s.cs_attributes & l_and_d) != l_and_d, Rule::cs_l_and_d);
    must((s.intercept_2 & 1) != 0, Rule::vmrun_not_intercepted);
    must(fits(s.io_map, io_map_bytes), Rule::io_map_beyond_the_cpus_addresses);
    must(fits(s.msr_map, msr_map_bytes), Rule::msr_map_beyond_the_cpus_addresses);
    must(s.asid != 0, Rule::asid_zero);
    if ((s.event & event_valid) != 0) {
        const u64 type = s.event >> 8 & 7, vector = s.event & 0xff;
        constexpr u64 nmi_vector = 2, bound_range = 5;
        must(type == 0 || type == 2 || type == 3 || type == 4, Rule::event_type);
        must(type != 3 || vector != nmi_vector, Rule::event_nmi_as_an_exception);
        must(type != 3 || vector < 32, Rule::event_exception_above_31);
        must(type != 3 || vector != bound_range || !long_mode || (s.cs_attributes & attribute_l) == 0,
             Rule::event_br_in_64_bit_mode);
    }
    return broken;
}

} // namespace refhv::front::svm_entry
