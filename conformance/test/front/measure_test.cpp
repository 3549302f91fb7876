// SPDX-License-Identifier: MIT
// A number must come out right on a machine that behaves, and must not come out at all on one that does not.
#include "conformance/test/front/fake_target.hpp"

#include "microbench/measure/measurement.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace refhv::bench {
namespace {

using front::Verdict;

constexpr u64 n = 32;

struct MeasureTest : ::testing::Test {
    MeasureTest() {
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        front::Session::get().adopt(std::move(owned));
    }
    ~MeasureTest() override { front::Session::get().close(); }

    static const Row& row(std::string_view name) {
        const auto all = rows();
        return **std::find_if(all.begin(), all.end(), [&](const Row* r) { return name == r->name; });
    }
    static Measurement cpuid() {
        return measure(row("exit.cpuid"), abi::Mode::nested, n, [](const Row&, abi::Mode) {});
    }
    static bool flagged(const Measurement& m, std::string_view flag) {
        return std::find(m.flags.begin(), m.flags.end(), flag) != m.flags.end();
    }
    static void expect_no_number(const Measurement& m, Verdict verdict, std::string_view reason) {
        EXPECT_EQ(m.verdict, verdict) << m.reason;
        EXPECT_NE(m.reason.find(reason), std::string::npos) << m.reason;
        EXPECT_FALSE(m.summary || m.slope || m.stamped_p50 || m.p50_interval || m.parts.exit ||
                     m.parts.handler);
    }

    test::FakeTarget* target;
};

TEST_F(MeasureTest, a_machine_that_behaves_gets_its_number) {
    const Measurement m = cpuid();
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.samples, std::vector<std::int64_t>(n, 25));
    EXPECT_EQ(m.stamp_cost, 5);
    EXPECT_EQ(m.summary->p50, 20);
    EXPECT_EQ(m.slope, 20);
    EXPECT_EQ(m.stamped_p50, 27);
    EXPECT_EQ(*m.parts.exit + *m.parts.handler + *m.parts.entry, *m.stamped_p50);
    EXPECT_EQ(m.parts.exit, 8 - 3);
    EXPECT_EQ(m.parts.entry, 4 - 2);
    EXPECT_EQ(m.exits->expected, n);
    EXPECT_EQ(m.exits->counted, n);
    EXPECT_TRUE(m.flags.empty());
}

TEST_F(MeasureTest, an_operation_that_exits_twice_has_a_part_between_its_exits) {
    const auto window = [] {
        return measure(row("inject.window"), abi::Mode::nested, n, [](const Row&, abi::Mode) {});
    };
    expect_no_number(window(), Verdict::invalid, "interrupt_window where");
    target->behaviour.second = abi::Reason::interrupt_window;
    const Measurement m = window();
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.parts.exit, 8 - 3);
    EXPECT_EQ(m.parts.between, 6);
    EXPECT_EQ(m.parts.entry, 4 - 2);
    EXPECT_EQ(*m.parts.exit + *m.parts.handler + *m.parts.between + *m.parts.entry, *m.stamped_p50);
    EXPECT_EQ(m.exits->reason, "cpuid + interrupt_window");
    EXPECT_EQ(m.exits->expected, 2 * n);
    EXPECT_EQ(m.exits->counted, 2 * n);
    EXPECT_FALSE(cpuid().parts.between) << "nor is there one of those that exit once";
}

TEST_F(MeasureTest, an_exit_that_the_core_takes_for_itself_is_counted_and_has_no_part) {
    const auto lazy = [] {
        return measure(row("ladder.xsave_lazy_used"), abi::Mode::nested, n, [](const Row&, abi::Mode) {});
    };
    expect_no_number(lazy(), Verdict::invalid, "exception where");
    target->behaviour.unseen = abi::Reason::exception;
    const Measurement m = lazy();
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_FALSE(m.parts.between);
    EXPECT_EQ(m.exits->reason, "cpuid");
    EXPECT_EQ(m.exits->counted, n);
}

TEST_F(MeasureTest, extras_are_asked_for_the_operation_and_not_for_its_control) {
    const Row& rung = row("ladder.msr_by_hand_64");
    const Measurement m = measure(rung, abi::Mode::nested, n, [](const Row&, abi::Mode) {});
    ASSERT_EQ(m.verdict, Verdict::pass) << m.reason;
    u64 with = 0, without = 0;
    for (const auto& request : target->requests) {
        if (request.op == abi::Op::run) {
            abi::Run run{};
            ASSERT_GE(request.body.size(), sizeof run);
            __builtin_memcpy(&run, request.body.data(), sizeof run);
            ++(run.extras == 0 ? without : with);
            EXPECT_EQ(run.extra_count, run.extras == 0 ? 0u : 64u);
            EXPECT_TRUE(run.extras == 0 || run.extras == rung.extras);
        }
    }
    EXPECT_EQ(with, 4u) << "warm-up, n, 2n, stamped";
    EXPECT_GE(without, 2u) << "the control's n and 2n";
}

TEST_F(MeasureTest, one_exit_too_few_is_invalid) {
    target->behaviour.extra_exits = -1;
    expect_no_number(cpuid(), Verdict::invalid, "were due");
}

TEST_F(MeasureTest, one_exit_too_many_is_invalid) {
    target->behaviour.extra_exits = 1;
    expect_no_number(cpuid(), Verdict::invalid, "were due");
}

TEST_F(MeasureTest, another_reason_is_invalid) {
    target->behaviour.reason = abi::Reason::rdtsc;
    expect_no_number(cpuid(), Verdict::invalid, "were due");
}

TEST_F(MeasureTest, a_changed_host_is_invalid) {
    target->behaviour.host_changed = abi::host_cr4;
    expect_no_number(cpuid(), Verdict::invalid, "host state changed");
}

TEST_F(MeasureTest, an_exception_in_the_guest_is_invalid) {
    target->behaviour.exceptions = 1;
    expect_no_number(cpuid(), Verdict::invalid, "exceptions");
}

TEST_F(MeasureTest, a_run_with_an_interrupt_is_repeated_and_counted) {
    static_cast<void>(cpuid()); // what is measured once for all rows
    target->behaviour.interrupted_runs = 1;
    const Measurement m = cpuid();
    EXPECT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.disturbed, 2 * n) << "the warm-up's rounds";
}

TEST_F(MeasureTest, interrupts_without_end_are_invalid) {
    static_cast<void>(cpuid());
    target->behaviour.interrupted_runs = 1'000;
    expect_no_number(cpuid(), Verdict::invalid, "interrupts");
}

TEST_F(MeasureTest, disturbed_samples_are_dropped_and_counted) {
    target->behaviour.disturbed = 3;
    const Measurement m = cpuid();
    EXPECT_EQ(m.verdict, Verdict::pass) << m.reason;
    EXPECT_EQ(m.samples.size(), n - 3);
    EXPECT_EQ(m.disturbed, 3u);
    EXPECT_FALSE(m.slope) << "the slope would hold the disturbance";
}

TEST_F(MeasureTest, mostly_disturbed_is_invalid) {
    static_cast<void>(cpuid());
    target->behaviour.disturbed = n / 2 + 1;
    expect_no_number(cpuid(), Verdict::invalid, "disturbed");
}

TEST_F(MeasureTest, a_cost_outside_of_the_stamps_is_flagged) {
    target->behaviour.drift = 3;
    const Measurement m = cpuid();
    EXPECT_EQ(m.summary->p50, 20);
    EXPECT_EQ(m.slope, 23);
    EXPECT_TRUE(flagged(m, "slope_disagrees"));
}

TEST_F(MeasureTest, a_dead_target_is_a_miss) {
    target->behaviour.dies = true;
    expect_no_number(cpuid(), Verdict::miss, "gone");
}

TEST_F(MeasureTest, what_the_machine_cannot_do_is_skipped) {
    target->behaviour.unsupported = u64{1} << static_cast<unsigned>(abi::Intercept::cpuid);
    expect_no_number(cpuid(), Verdict::skip, "cannot make it exit");
    expect_no_number(measure(row("exit.vmmcall"), abi::Mode::nested, n, [](const Row&, abi::Mode) {}),
                     Verdict::skip, "SVM");
    expect_no_number(measure(row("exit.cpuid"), abi::Mode::user, n, [](const Row&, abi::Mode) {}),
                     Verdict::skip, "no mode user");
}

TEST_F(MeasureTest, a_closed_gate_is_respected_before_anything_runs) {
    const auto m = measure(row("exit.cpuid"), abi::Mode::nested, n,
                           [](const Row&, abi::Mode) { throw Invalid("claim X FAIL"); });
    expect_no_number(m, Verdict::invalid, "claim X FAIL");
    EXPECT_EQ(target->runs, 0u);
}

TEST_F(MeasureTest, a_core_that_refuses_the_request_is_an_error) {
    target->behaviour.create = abi::Outcome::bad_request;
    expect_no_number(cpuid(), Verdict::error, "bad_request");
}

TEST_F(MeasureTest, every_row_has_a_mode_and_a_name_of_its_own) {
    std::vector<std::string> names;
    for (const Row* r : rows()) {
        for (abi::Mode mode : modes_of(*r)) {
            names.push_back(full_name(*r, mode));
        }
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
    EXPECT_STREQ(rows().front()->name, "control.empty");
}

} // namespace
} // namespace refhv::bench
