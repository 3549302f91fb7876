// SPDX-License-Identifier: MIT
// Rows of a table on the target: many entries a request, the unchanged state between them, and what to do
// where the target does not survive one.
#pragma once

#include "refhv/client/guest/vm.hpp"

#include <functional>
#include <gtest/gtest.h>

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

// Failures with one cause: the first few of them, and how many.
class Findings {
  public:
    void add(const std::string& line) {
        if (count_++ < shown) {
            ADD_FAILURE() << line;
        }
    }
    void end(u64 of) const {
        if (count_ > shown) {
            ADD_FAILURE() << count_ << " of " << of << " rows in all";
        }
    }

  private:
    static constexpr u64 shown = 6;
    u64 count_ = 0;
};

} // namespace refhv::front
