// SPDX-License-Identifier: MIT
// Rows of the SVM tables: what each changes of a VMCB that enters.
#pragma once

#include "conformance/entry/table/rows.hpp"
#include "conformance/entry/table/svm_rules.hpp"

namespace refhv::front::svm_entry {

enum Table : u32 {
    registers,
    controls,
    events,
    segments_of_any_kind, // of which VMRUN checks next to nothing
    mixtures,
    last_of_all, // what a subject may not survive
    table_count,
};

[[nodiscard]] std::vector<Change> rows_of(Table table, const State& base, const Machine& machine);

} // namespace refhv::front::svm_entry
