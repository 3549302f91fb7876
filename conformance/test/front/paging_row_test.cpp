// SPDX-License-Identifier: MIT
// Exits per operation come out right, and a row that loses one has no number.
#include "conformance/test/front/fake_target.hpp"

#include "microbench/measure/exit_rates.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace refhv::bench {
namespace {

using abi::Mode;
using abi::Reason;
using front::Verdict;

constexpr u64 n = 32;

// What the fake target takes for an operation that exits.
SAMPLED_GUEST(guest_that_exits, "", "", "cpuid")

struct PagingRowTest : ::testing::Test {
    PagingRowTest() {
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        target->behaviour.reason = Reason::exception;
        front::Session::get().adopt(std::move(owned));
    }
    ~PagingRowTest() override { front::Session::get().close(); }

    [[nodiscard]] Measurement take(Mode mode) const {
        return measure(row, mode, n, [](const Row&, Mode) {});
    }
    static void expect_invalid(const Measurement& m, std::string_view reason) {
        EXPECT_EQ(m.verdict, Verdict::invalid) << m.reason;
        EXPECT_NE(m.reason.find(reason), std::string::npos) << m.reason;
        EXPECT_FALSE(m.summary || m.slope);
    }

    test::FakeTarget* target;
    Row row{.name = "shadow.of_a_test", .guest = guest_that_exits, .paging = true};
};

TEST_F(PagingRowTest, exits_are_counted_by_operation_and_reason) {
    const Measurement m = take(Mode::shadow);
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.exits_per_operation->total, 1);
    EXPECT_EQ(m.exits_per_operation->by_reason, (std::map<std::string, double>{{"exception", 1}}));
    EXPECT_EQ(m.summary->p50, 20);
}

TEST_F(PagingRowTest, a_batch_is_divided_by_its_operations) {
    row.batch = 4;
    const Measurement m = take(Mode::vtlb);
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.exits_per_operation->total, 0.25);
    EXPECT_EQ(m.summary->p50, 5);
    EXPECT_EQ(m.slope, 5);
    EXPECT_EQ(m.samples.front(), 25) << "samples stay raw";
}

TEST_F(PagingRowTest, what_a_run_pays_once_is_not_the_operations) {
    target->behaviour.extra_exits = 7;
    EXPECT_EQ(take(Mode::shadow).exits_per_operation->total, 1);
}

TEST_F(PagingRowTest, a_lost_exit_is_invalid) {
    target->behaviour.lossy_run = 5; // the second of the two equal ones
    expect_invalid(take(Mode::shadow), "the same run exited 64 and then 63 times by exception");
}

TEST_F(PagingRowTest, other_exits_than_declared_are_invalid) {
    row.shadow_exits = 2;
    expect_invalid(take(Mode::shadow), "2 were due");
    EXPECT_EQ(take(Mode::vtlb).verdict, Verdict::pass) << "declared of mode shadow only";
    target->runs = 0;
    row.shadow_exits = 1;
    target->behaviour.lossy_run = 4; // of the run of n: the rate is off by 1/n
    expect_invalid(take(Mode::shadow), "1 were due");
}

TEST_F(PagingRowTest, an_exit_that_is_not_the_pagings_is_invalid) {
    target->behaviour.reason = Reason::nested_violation;
    expect_invalid(take(Mode::shadow), "64 × nested_violation where 0 × nested_violation were due");
}

TEST_F(PagingRowTest, nothing_exits_under_nested_paging) {
    expect_invalid(take(Mode::nested), "were due");
}

TEST_F(PagingRowTest, a_row_is_no_longer_than_its_pages_last) {
    row.most_rounds = 16;
    EXPECT_EQ(take(Mode::shadow).n, 8u);
}

TEST_F(PagingRowTest, only_rows_about_paging_may_run_shadowed) {
    for (const Row* r : rows()) {
        const auto modes = modes_of(*r);
        const bool shadowed = std::any_of(modes.begin(), modes.end(), is_shadowed);
        EXPECT_TRUE(!shadowed || r->paging || r->by_itself) << r->name;
    }
}

} // namespace
} // namespace refhv::bench
