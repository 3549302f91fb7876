// SPDX-License-Identifier: MIT
// Google Benchmark's view of the rows, and ours of its results: a table in the target's own unit. The times
// that Google Benchmark takes are those of the measuring, not of the measured, and are left out of the table.
#pragma once

#include "microbench/measure/results.hpp"

#include <benchmark/benchmark.h>
#include <functional>

namespace refhv::bench {

class TableReporter : public benchmark::BenchmarkReporter {
  public:
    // `keep` is called after every row, so that what has been measured outlives whatever comes next.
    explicit TableReporter(std::function<void()> keep) : keep_(std::move(keep)) {}

    bool ReportContext(const Context& context) override;
    void ReportRuns(const std::vector<Run>& runs) override;

  private:
    std::function<void()> keep_;
    int name_width_ = 0;
};

// --benchmark_out: Google Benchmark's JSON with the measured value for `real_time` and `cpu_time`, which is
// what its compare.py compares: the median of one operation, in ns where the TSC's rate is known, else in the
// target's own unit, as `context` says. Rows without a number are not in it.
class ValueReporter : public benchmark::JSONReporter {
  public:
    bool ReportContext(const Context& context) override;
    void ReportRuns(const std::vector<Run>& runs) override;
};

// Registers rows under their full names. `only` empty: every mode; else the modes that this kind of target
// may offer.
void register_rows(const std::vector<abi::Mode>& only, u64 samples);

// Full names of the registered rows that Google Benchmark's --benchmark_filter selects.
[[nodiscard]] std::vector<Result> selected_rows(const std::vector<abi::Mode>& only,
                                                const std::string& filter);

} // namespace refhv::bench
