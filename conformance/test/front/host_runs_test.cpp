// SPDX-License-Identifier: MIT
// Rows that the host times: a run or an instruction that is not what it should be gives no number.
#include "conformance/test/front/fake_target.hpp"

#include "microbench/measure/host_runs.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace refhv::bench {
namespace {

using abi::Mode;
using front::Verdict;

struct HostRunsTest : ::testing::Test {
    HostRunsTest() {
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        front::Session::get().adopt(std::move(owned));
    }
    ~HostRunsTest() override { front::Session::get().close(); }

    static Measurement of(std::string_view name) {
        const auto all = rows();
        const Row& row =
            **std::find_if(all.begin(), all.end(), [&](const Row* r) { return name == r->name; });
        return measure(row, Mode::nested, 256, [](const Row&, Mode) {});
    }
    test::FakeTarget* target;
};

TEST_F(HostRunsTest, an_instruction_is_free_of_its_stamps) {
    const Measurement m = of("flush.invept_single");
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.batch, host_batch);
    EXPECT_EQ(m.samples.front(), 4 + 3 * host_batch);
    EXPECT_EQ(m.stamp_cost, 4);
    EXPECT_EQ(m.summary->p50, 3);
    EXPECT_EQ(m.slope, 3);
}

TEST_F(HostRunsTest, an_instruction_that_failed_is_invalid) {
    target->behaviour.instruction_error = 28;
    const Measurement m = of("flush.invvpid_all");
    EXPECT_EQ(m.verdict, Verdict::invalid);
    EXPECT_FALSE(m.summary);
    EXPECT_NE(m.reason.find("error 28"), std::string::npos) << m.reason;
}

TEST_F(HostRunsTest, a_run_that_ends_otherwise_is_invalid) {
    const Measurement m = of("fault.violation_reply"); // this target only knows HLT
    EXPECT_EQ(m.verdict, Verdict::invalid);
    EXPECT_NE(m.reason.find("ended by hlt"), std::string::npos) << m.reason;
}

TEST_F(HostRunsTest, a_run_of_more_than_one_entry_is_invalid) {
    target->greeting.fixed.vendor = static_cast<u16>(abi::Vendor::svm);
    EXPECT_EQ(of("flush.asid_fresh").verdict, Verdict::pass);
    target->behaviour.entries = 2;
    const Measurement m = of("flush.asid_fresh");
    EXPECT_EQ(m.verdict, Verdict::invalid);
    EXPECT_NE(m.reason.find("2 entries"), std::string::npos) << m.reason;
}

} // namespace
} // namespace refhv::bench
