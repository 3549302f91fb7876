// SPDX-License-Identifier: MIT
// Summaries of samples. Everything here is exact arithmetic on copies; nothing draws from an unseeded source.
#pragma once

#include <cstdint>
#include <span>

namespace refhv::bench {

struct Summary {
    double min = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
    double mad = 0; // median absolute deviation from p50, unscaled
};

struct Interval {
    double low = 0, high = 0;
};

// The q-quantile, 0 <= q <= 1, by linear interpolation between order statistics (Hyndman & Fan 1996, type 7;
// what NumPy and R do by default). NaN for no samples.
[[nodiscard]] double quantile(std::span<const std::int64_t> samples, double q);

// All fields NaN for no samples. `offset` is taken off everything but the MAD; what is left is of one of the
// `batch` operations that a sample holds.
[[nodiscard]] Summary summarize(std::span<const std::int64_t> samples, double offset, double batch = 1);

// Percentile bootstrap of the median (Efron & Tibshirani 1993, 13.3): `resamples` draws with replacement from
// a fixed seed, and the quantiles (1 -+ confidence)/2 of their medians. NaN for no samples.
[[nodiscard]] Interval bootstrap_median(std::span<const std::int64_t> samples, double confidence = 0.95,
                                        unsigned resamples = 1000);

} // namespace refhv::bench
