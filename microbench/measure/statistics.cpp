// SPDX-License-Identifier: MIT
#include "microbench/measure/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace refhv::bench {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double sorted_quantile(std::span<const double> sorted, double q) {
    if (sorted.empty()) {
        return nan;
    }
    const double at = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], at - static_cast<double>(below));
}

std::vector<double> sorted(std::span<const std::int64_t> samples) {
    std::vector<double> out(samples.begin(), samples.end());
    std::sort(out.begin(), out.end());
    return out;
}

// SplitMix64 (Steele, Lea & Flood 2014): the same numbers with every standard library, which
// std::uniform_int_distribution does not promise.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    // Uniform in [0, below) up to a bias of below / 2^64.
    std::size_t index(std::size_t below) {
        state_ += 0x9e37'79b9'7f4a'7c15;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
        z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
        z ^= z >> 31;
        return static_cast<std::size_t>((static_cast<unsigned __int128>(z) * below) >> 64);
    }

  private:
    std::uint64_t state_;
};

} // namespace

double quantile(std::span<const std::int64_t> samples, double q) {
    return sorted_quantile(sorted(samples), q);
}

Summary summarize(std::span<const std::int64_t> samples, double offset, double batch) {
    const auto order = sorted(samples);
    const double median = sorted_quantile(order, 0.5);
    std::vector<double> deviations(order.size());
    std::transform(order.begin(), order.end(), deviations.begin(),
                   [&](double x) { return std::abs(x - median); });
    std::sort(deviations.begin(), deviations.end());
    const auto one = [&](double whole) { return (whole - offset) / batch; };
    return {.min = one(sorted_quantile(order, 0)),
            .p50 = one(median),
            .p90 = one(sorted_quantile(order, 0.9)),
            .p99 = one(sorted_quantile(order, 0.99)),
            .max = one(sorted_quantile(order, 1)),
            .mad = sorted_quantile(deviations, 0.5) / batch};
}

Interval bootstrap_median(std::span<const std::int64_t> samples, double confidence, unsigned resamples) {
    if (samples.empty()) {
        return {nan, nan};
    }
    constexpr std::uint64_t seed = 0x7265'6668'76; // "refhv"
    Random random(seed);
    std::vector<double> medians;
    medians.reserve(resamples);
    std::vector<double> draw(samples.size());
    for (unsigned i = 0; i < resamples; ++i) {
        for (double& x : draw) {
            x = static_cast<double>(samples[random.index(samples.size())]);
        }
        const auto middle = draw.begin() + static_cast<std::ptrdiff_t>(draw.size() / 2);
        std::nth_element(draw.begin(), middle, draw.end());
        double median = *middle;
        if (draw.size() % 2 == 0) {
            median = (median + *std::max_element(draw.begin(), middle)) / 2;
        }
        medians.push_back(median);
    }
    std::sort(medians.begin(), medians.end());
    return {sorted_quantile(medians, (1 - confidence) / 2), sorted_quantile(medians, (1 + confidence) / 2)};
}

} // namespace refhv::bench
