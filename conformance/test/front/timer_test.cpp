// SPDX-License-Identifier: MIT
// Rows of family timer: how late is what is counted, against what the capability MSRs say of the timer.
#include "conformance/test/front/fake_target.hpp"

#include "microbench/measure/measurement.hpp"
#include "microbench/measure/record.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace refhv::bench {
namespace {

using abi::Mode;
using front::Verdict;

struct TimerTest : ::testing::Test {
    TimerTest() {
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        target->greeting.msrs.push_back({.index = 0x481, .present = 1, .value = u64{1} << (32 + 6)});
        target->greeting.msrs.push_back({.index = 0x485, .present = 1, .value = 5}); // 32 ticks a unit
        front::Session::get().adopt(std::move(owned));
    }
    ~TimerTest() override { front::Session::get().close(); }

    static Measurement of(std::string_view name) {
        const auto all = rows();
        const Row& row =
            **std::find_if(all.begin(), all.end(), [&](const Row* r) { return name == r->name; });
        const Mode mode = modes_of(row).front();
        Measurement m = measure(row, mode, 64, [](const Row&, Mode) {});
        Results::get().put({&row, mode, m});
        return m;
    }
    test::FakeTarget* target;
};

TEST_F(TimerTest, a_timer_in_time_is_not_late) {
    const Measurement m = of("timer.preemption_256");
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.due->ticks, 256u * 32);
    EXPECT_EQ(m.due->step, 32u);
    EXPECT_EQ(m.samples.size(), 64u);
    EXPECT_EQ(m.stamp_cost, 40) << "entry and exit";
    EXPECT_EQ(m.summary->max, 0);
    EXPECT_EQ(m.exits->counted, m.exits->expected);
}

TEST_F(TimerTest, a_late_timer_is_so_late) {
    target->behaviour.timer_late = 11;
    const Measurement m = of("timer.preemption_16");
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.summary->min, 11);
    const auto record = make_record(std::chrono::system_clock::time_point{}, nullptr, nullptr);
    const auto row = std::find_if(record["benchmarks"].begin(), record["benchmarks"].end(),
                                  [](const auto& b) { return b["name"] == "timer.preemption_16/nested"; });
    ASSERT_NE(row, record["benchmarks"].end());
    EXPECT_EQ((*row)["due"]["ticks"], 16 * 32);
    EXPECT_EQ((*row)["due"]["step"], 32);
}

TEST_F(TimerTest, what_is_missing_is_named) {
    target->greeting.msrs.clear();
    const Measurement m = of("timer.preemption_16");
    EXPECT_EQ(m.verdict, Verdict::skip);
    EXPECT_EQ(m.reason, "no VMX-preemption timer: IA32_VMX_PINBASED_CTLS, control 6");
    EXPECT_EQ(of("timer.rdtsc_multiplier").reason, "no TSC scaling: IA32_VMX_PROCBASED_CTLS2, control 25");
    EXPECT_EQ(of("timer.tsc_deadline").verdict, Verdict::skip);
}

} // namespace
} // namespace refhv::bench
