// SPDX-License-Identifier: MIT
#include "conformance/entry/table/vmx_tables.hpp"

namespace refhv::front::vmx_entry {

namespace {

struct TableInfo {
    Table table;
    const char* name;
    Base base;
    void (*fill)(Rows&);
};

constexpr TableInfo tables[] = {
    {controls, "controls", Base::long_mode, control_rows},
    {addresses, "addresses", Base::long_mode, address_rows},
    {combinations, "combinations of controls", Base::long_mode, combination_rows},
    {events, "events", Base::long_mode, event_rows},
    {host, "host state", Base::long_mode, host_rows},
    {registers, "registers", Base::long_mode, register_rows},
    {segments, "segments", Base::long_mode, segment_rows},
    {rights_64, "access rights in 64-bit mode", Base::long_mode, rights_rows},
    {non_register, "non-register state", Base::long_mode, non_register_rows},
    {mixtures, "mixtures", Base::long_mode, mixture_rows},
    {protected_mode, "protected mode", Base::protected_pae, protected_rows},
    {rights_32, "access rights in protected mode", Base::protected_pae, rights_rows},
    {pae, "PDPTEs", Base::protected_pae, pae_rows},
    {unrestricted_32, "access rights of an unrestricted guest", Base::unrestricted_pae, unrestricted_rows},
    {virtual_8086, "virtual-8086 mode", Base::virtual_8086, virtual_8086_rows},
    {real, "real mode", Base::real_mode, real_rows},
    {events_real, "events in real mode", Base::real_mode, real_event_rows},
    {rings, "rings of an unrestricted guest", Base::unrestricted_pae, ring_rows},
    {rings_real, "rings in real mode", Base::real_mode, ring_rows},
    {cet, "CET state", Base::long_mode, cet_rows},
    {shadow_stacks, "shadow-stack pointers", Base::long_mode, shadow_stack_rows},
    {cet_32, "CET state in protected mode", Base::protected_pae, protected_cet_rows},
    {keys, "protection keys and user interrupts", Base::long_mode, key_rows},
    {tertiary, "tertiary controls", Base::long_mode, tertiary_rows},
    {other_events, "other events", Base::long_mode, other_event_rows},
};

const TableInfo& info_of_table(Table table) {
    const auto* const at = std::find_if(std::begin(tables), std::end(tables),
                                        [&](const TableInfo& t) { return t.table == table; });
    return *at;
}

} // namespace

Base base_of_table(Table table) {
    return info_of_table(table).base;
}

const char* name_of_table(Table table) {
    return info_of_table(table).name;
}

std::vector<Change> rows_of(Table table, const State& base, const Machine& machine, const Pages& pages) {
    Rows rows(base, machine, pages);
    info_of_table(table).fill(rows);
    return rows.take();
}

} // namespace refhv::front::vmx_entry
