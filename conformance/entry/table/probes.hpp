// SPDX-License-Identifier: MIT
// Rows of a table on the target: many entries a request, the unchanged state between them, and what to do
// where the target does not survive one.
#pragma once

#include "refhv/client/guest/vm.hpp"
#include "refhv/front/differences.hpp"
#include "refhv/front/session.hpp"

#include <functional>
#include <map>

namespace refhv::front {

struct ProbeRow {
    std::vector<abi::ProbeField> fields;
    abi::ProbeResult result{};
    bool died = false; // the target, of this row

    [[nodiscard]] bool enters() const {
        return result.outcome == static_cast<u16>(abi::Outcome::exited) ||
               result.outcome == static_cast<u16>(abi::Outcome::deadline);
    }
    [[nodiscard]] bool is_refused() const {
        return result.outcome == static_cast<u16>(abi::Outcome::entry_refused);
    }
    // It was reached, and the CPU has all of its fields.
    [[nodiscard]] bool is_known() const { return died || enters() || is_refused(); }
};

// The unchanged state did not enter: nothing that the table says counts.
struct BaseRefused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What became of each table, tried once a trial (Session::trial).
template <class Table, class Rows>
class TriedTables {
  public:
    template <class Run>
    const Rows& of(Table table, Run run) {
        if (trial_ != Session::get().trial()) {
            trial_ = Session::get().trial();
            done_.clear();
        }
        const auto at = done_.find(table);
        return at != done_.end() ? at->second : done_.emplace(table, run(table)).first->second;
    }

  private:
    std::map<Table, Rows> done_;
    u64 trial_ = Session::get().trial();
};

class BulkProbes {
  public:
    // `guest`: one that enters. `make`: another, for where the target has been started afresh. `base`: a row
    // that changes nothing.
    BulkProbes(client::Guest& guest, std::function<client::Guest&()> make, std::vector<abi::ProbeField> base)
        : make_(std::move(make)), base_(std::move(base)), guest_(&guest) {}

    // Enters once with nothing changed.
    void run_base() { send({}); }
    // `one_by_one`: for rows that a target may not survive; the first death ends it.
    void run(std::span<ProbeRow* const> rows, bool one_by_one);

  private:
    void attempt(std::span<ProbeRow* const> rows);
    void send(std::span<ProbeRow* const> rows);

    std::function<client::Guest&()> make_;
    std::vector<abi::ProbeField> base_;
    client::Guest* guest_;
};

} // namespace refhv::front
