// SPDX-License-Identifier: MIT
// Collects what the claims said, from GoogleTest's own events.
#pragma once

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
    [[nodiscard]] bool any(Verdict verdict) const;
    // 0, 1 or 3 as the tools exit.
    [[nodiscard]] int exit_code() const;

    void OnTestEnd(const ::testing::TestInfo& info) override;

  private:
    std::vector<ClaimResult> results_;
};

// Full names of all claims that GoogleTest's --gtest_filter lets through.
[[nodiscard]] std::vector<std::string> claims_selected_by(const std::string& filter);
// Does GoogleTest's filter syntax ("a*:b?-c*") let the name through?
[[nodiscard]] bool filter_matches(const std::string& filter, const std::string& name);

} // namespace refhv::front
