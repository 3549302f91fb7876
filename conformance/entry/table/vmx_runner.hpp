// SPDX-License-Identifier: MIT
// Runs a table on the target, once a process, and keeps what became of every row.
#pragma once

#include "conformance/entry/table/probes.hpp"
#include "conformance/entry/table/vmx_tables.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/session.hpp"

namespace refhv::front::vmx_entry {

// A guest that enters.
struct Start {
    Start(client::GuestHost& host, Base base);
    [[nodiscard]] State read();

    client::Guest guest;
    Change always{}; // fields that every entry has besides
    Pages pages{};
};

[[nodiscard]] Machine machine_of(const client::HelloInfo& hello);

struct Tried : ProbeRow {
    Change change;
    std::vector<Rule> broken; // by the model
};

// Rows whose fields the CPU has. Throws TargetMiss, Refused, and BaseRefused.
[[nodiscard]] const std::vector<Tried>& tried(Table table);

} // namespace refhv::front::vmx_entry
