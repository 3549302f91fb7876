// SPDX-License-Identifier: MIT
// Runs a table on the target, once a process, and keeps what became of every row.
#pragma once

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

struct Tried {
    Change change;
    std::vector<Rule> broken; // by the model
    abi::ProbeResult result{};
    bool died = false; // the target, of this row

    [[nodiscard]] bool enters() const {
        return result.outcome == static_cast<u16>(abi::Outcome::exited) ||
               result.outcome == static_cast<u16>(abi::Outcome::deadline);
    }
    // It was reached, and the CPU has all of its fields.
    [[nodiscard]] bool is_known() const {
        return died || (result.outcome != static_cast<u16>(abi::Outcome::unsupported) &&
                        result.outcome != static_cast<u16>(abi::Outcome::ok));
    }
};

// Rows whose fields the CPU has. Throws TargetMiss, Refused, and BaseRefused.
[[nodiscard]] const std::vector<Tried>& tried(Table table);

// The unchanged state did not enter: nothing that the table says counts.
struct BaseRefused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

} // namespace refhv::front::vmx_entry
