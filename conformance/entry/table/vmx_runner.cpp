// SPDX-License-Identifier: MIT
#include "conformance/entry/table/vmx_runner.hpp"

#include <optional>

namespace refhv::front::vmx_entry {

namespace {

// Of those that must enter: what neither a HLT nor a deadline ends. That an interrupt ends HLT also where IF
// is 0 (SDM 3C 26.2) is another claim's.
[[nodiscard]] bool sleeps_for_good(const State& s, bool enters) {
    constexpr u64 hlt_exiting = 1u << 7;
    const bool injects = (s[event] & event_valid) != 0;
    const bool halts = (s[activity] == 1 && !injects) || (s[proc_controls] & hlt_exiting) == 0;
    return enters &&
           (s[activity] == 3 || (s[activity] == 2 && !injects) || (halts && (s[rflags] & rflags_if) == 0));
}

[[nodiscard]] std::vector<abi::ProbeField> fields_of(const Change& always, const Change& change) {
    std::vector<abi::ProbeField> fields;
    const auto put = [&](const FieldValue& f) {
        fields.push_back({.field = f.field, .width = 8, .flags = 0, .value = f.value});
    };
    for (const FieldValue& f : always) {
        if (std::none_of(change.begin(), change.end(),
                         [&](const FieldValue& c) { return c.field == f.field; })) {
            put(f);
        }
    }
    for (const FieldValue& f : change) {
        put(f);
    }
    return fields;
}

[[nodiscard]] std::vector<Tried> rows_on(const State& base, Table table, const Start& start) {
    const Machine machine = machine_of(Session::get().hello());
    if (const auto broken = broken_rules(base, machine); !broken.empty()) {
        throw std::logic_error(std::string("the model refuses what ") + name_of_table(table) +
                               " starts from: " + info_of(broken.front()).name);
    }
    std::vector<Tried> rows;
    for (Change& change : rows_of(table, base, machine, start.pages)) {
        const State state = base.with(change);
        auto broken = broken_rules(state, machine);
        if (!sleeps_for_good(state, broken.empty())) {
            Tried row;
            row.fields = fields_of(start.always, change);
            row.change = std::move(change);
            row.broken = std::move(broken);
            rows.push_back(std::move(row));
        }
    }
    return rows;
}

[[nodiscard]] std::vector<Tried> run(Table table) {
    std::optional<Start> start;
    const auto make = [&]() -> client::Guest& {
        return start.emplace(Session::get().host(), base_of_table(table)).guest;
    };
    client::Guest& guest = make();
    BulkProbes probes(guest, make, fields_of(start->always, {{rip, guest.state.rip}}));
    probes.run_base(); // the host's fields are written by a run
    auto rows = rows_on(start->read(), table, *start);
    std::vector<ProbeRow*> order;
    order.reserve(rows.size());
    for (Tried& row : rows) {
        order.push_back(&row);
    }
    probes.run(order, table == other_events);
    std::erase_if(rows, [](const Tried& row) { return !row.is_known(); });
    return rows;
}

} // namespace

const std::vector<Tried>& tried(Table table) {
    static TriedTables<Table, std::vector<Tried>> tables;
    return tables.of(table, run);
}

} // namespace refhv::front::vmx_entry
