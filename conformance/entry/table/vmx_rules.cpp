// SPDX-License-Identifier: MIT
#include "conformance/entry/table/vmx_rules.hpp"

namespace refhv::front::vmx_entry {

namespace {

constexpr RuleInfo rules[] = {
#define RULE(name, kind, section, where) {#name, Kind::kind, section},
#include "conformance/entry/table/vmx_rules.inc"
#undef RULE
};
static_assert(sizeof rules / sizeof rules[0] == static_cast<usize>(Rule::count_));

struct NamedField {
    u32 field;
    const char* name;
};

constexpr NamedField named[] = {
#define FIELD(name) {name, #name},
#include "conformance/entry/table/vmx_fields.inc"
#undef FIELD
};

constexpr const char* segment_names[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};

} // namespace

const RuleInfo& info_of(Rule rule) {
    return rules[static_cast<usize>(rule)];
}

std::vector<Rule> broken_rules(const State& state, const Machine& machine) {
    std::vector<Rule> broken;
    Check check(state, machine, broken);
    check.controls();
    check.processor_controls();
    check.apic_controls();
    check.ept_controls();
    check.exit_and_entry_controls();
    check.event();
    check.host();
    check.host_cet_state();
    check.control_registers();
    check.model_specific_registers();
    check.cet_state();
    check.segments();
    check.descriptor_tables();
    check.rip_and_rflags();
    check.activity();
    check.interruptibility();
    check.pending_debug();
    check.link_and_pdptes();
    return broken;
}

const std::vector<u32>& modelled_fields() {
    static const std::vector<u32> all = [] {
        std::vector<u32> fields;
        for (const NamedField& f : named) {
            fields.push_back(f.field);
        }
        for (u32 segment = es; segment <= tr; ++segment) {
            for (const u32 field :
                 {selector_of(segment), limit_of(segment), rights_of(segment), base_of(segment)}) {
                fields.push_back(field);
            }
        }
        for (u32 i = 0; i < 4; ++i) {
            fields.push_back(pdpte0 + 2 * i);
        }
        for (u32 field = host_es_selector; field <= host_tr_selector; field += 2) {
            fields.push_back(field);
        }
        std::sort(fields.begin(), fields.end());
        fields.erase(std::unique(fields.begin(), fields.end()), fields.end());
        return fields;
    }();
    return all;
}

std::string name_of_field(u32 field) {
    for (u32 i = es; i <= tr; ++i) {
        const std::string segment = segment_names[i];
        if (field == selector_of(i)) {
            return segment + " selector";
        }
        if (field == limit_of(i)) {
            return segment + " limit";
        }
        if (field == rights_of(i)) {
            return segment + " rights";
        }
        if (field == base_of(i)) {
            return segment + " base";
        }
    }
    for (const NamedField& f : named) {
        if (f.field == field) {
            return f.name;
        }
    }
    return "field " + std::to_string(field);
}

} // namespace refhv::front::vmx_entry
