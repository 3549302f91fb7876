// SPDX-License-Identifier: MIT
// Collects what the claims said, from GoogleTest's own events.
#pragma once

#include "refhv/front/departures.hpp"
#include "refhv/front/verdict.hpp"

#include <gtest/gtest.h>
#include <vector>

namespace refhv::front {

class Verdicts : public ::testing::EmptyTestEventListener {
  public:
    // The one of this process, appended to GoogleTest's listeners (which own it) at the first call.
    static Verdicts& get();

    [[nodiscard]] const std::vector<ClaimResult>& all() const { return results_; }
    [[nodiscard]] const ClaimResult* find(const std::string& name) const;
    // The departures that are none of the tool's failures; none until this is called.
    void expect(Departures departures) { expected_ = std::move(departures); }
    [[nodiscard]] bool is_expected(const ClaimResult& claim) const { return expected_.knows(claim); }
    // After RUN_ALL_TESTS and what it returned: did something fail that is no claim?
    [[nodiscard]] bool failed_elsewhere(int google) const;
    // 0, 1 or 3 as the tools exit, of the claims that did not come out as listed.
    [[nodiscard]] int exit_code() const;

    void OnTestEnd(const ::testing::TestInfo& info) override;

  private:
    std::vector<ClaimResult> results_;
    Departures expected_;
};

// Full names of all claims that GoogleTest's --gtest_filter lets through.
[[nodiscard]] std::vector<std::string> claims_selected_by(const std::string& filter);
// Does GoogleTest's filter syntax ("a*:b?-c*") let the name through?
[[nodiscard]] bool filter_matches(const std::string& filter, const std::string& name);

} // namespace refhv::front
