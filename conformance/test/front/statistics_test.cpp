// SPDX-License-Identifier: MIT
#include "microbench/measure/statistics.hpp"

#include <cmath>
#include <gtest/gtest.h>
#include <vector>

namespace refhv::bench {
namespace {

using Samples = std::vector<std::int64_t>;

// R: quantile(c(1, 2, 3, 4, 10), c(0, .5, .9, .99, 1)) gives 1, 3, 7.6, 9.76, 10; mad(x, constant = 1)
// gives 1.
TEST(Statistics, known_answers) {
    const Summary s = summarize(Samples{10, 3, 1, 4, 2}, 0);
    EXPECT_DOUBLE_EQ(s.min, 1);
    EXPECT_DOUBLE_EQ(s.p50, 3);
    EXPECT_DOUBLE_EQ(s.p90, 7.6);
    EXPECT_DOUBLE_EQ(s.p99, 9.76);
    EXPECT_DOUBLE_EQ(s.max, 10);
    EXPECT_DOUBLE_EQ(s.mad, 1);
}

TEST(Statistics, an_even_count_has_its_median_in_the_middle) {
    EXPECT_DOUBLE_EQ(quantile(Samples{1, 2, 3, 4}, 0.5), 2.5);
}

TEST(Statistics, the_offset_moves_everything_but_the_spread) {
    const Summary s = summarize(Samples{10, 3, 1, 4, 2}, 5);
    EXPECT_DOUBLE_EQ(s.min, -4);
    EXPECT_DOUBLE_EQ(s.p50, -2);
    EXPECT_DOUBLE_EQ(s.mad, 1);
}

TEST(Statistics, nothing_is_not_a_number) {
    EXPECT_TRUE(std::isnan(summarize(Samples{}, 0).p50));
    EXPECT_TRUE(std::isnan(bootstrap_median(Samples{}).low));
}

TEST(Statistics, equal_samples_have_no_interval) {
    const Interval i = bootstrap_median(Samples(100, 7));
    EXPECT_DOUBLE_EQ(i.low, 7);
    EXPECT_DOUBLE_EQ(i.high, 7);
}

// The exact 95 % interval of the median of 1..101 by order statistics is [41, 61] (binomial); the bootstrap's
// quantiles come within one of it, hold the median, and are the same at every call.
TEST(Statistics, bootstrap_is_right_and_repeatable) {
    Samples samples(101);
    for (std::int64_t i = 0; i < 101; ++i) {
        samples[static_cast<std::size_t>(i)] = (i * 37) % 101 + 1;
    }
    const Interval a = bootstrap_median(samples);
    const Interval b = bootstrap_median(samples);
    EXPECT_EQ(a.low, b.low);
    EXPECT_EQ(a.high, b.high);
    EXPECT_NEAR(a.low, 41, 1);
    EXPECT_NEAR(a.high, 61, 1);
}

} // namespace
} // namespace refhv::bench
