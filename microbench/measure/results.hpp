// SPDX-License-Identifier: MIT
// What has been measured in this process, for the table and the record.
#pragma once

#include "microbench/measure/measurement.hpp"
#include "refhv/front/disturbances.hpp"

namespace refhv::bench {

struct Result {
    const Row* row;
    abi::Mode mode;
    Measurement measurement;
    std::optional<front::Between> disturbances{};
    [[nodiscard]] std::string name() const { return full_name(*row, mode); }
};

class Results {
  public:
    static Results& get();
    // The last measurement of a row and mode stays.
    const Result& put(Result result);
    [[nodiscard]] const Result* find(const std::string& name) const;
    [[nodiscard]] const std::vector<Result>& all() const { return results_; }

  private:
    std::vector<Result> results_;
};

} // namespace refhv::bench
