// SPDX-License-Identifier: MIT
// A clock that does not count instructions must cost every row its number, whenever the target is started.
#include "conformance/test/front/fake_target.hpp"

#include "microbench/measure/measurement.hpp"
#include "refhv/front/tick_proof.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace refhv::bench {
namespace {

using front::CountedPair;
using front::Session;
using front::Verdict;

struct TickProofTest : ::testing::Test {
    TickProofTest() {
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        Session::get().adopt(std::move(owned));
    }
    ~TickProofTest() override { Session::get().close(); }

    static Measurement cpuid(abi::Mode mode = abi::Mode::nested) {
        const auto all = rows();
        const Row& row = **std::find_if(
            all.begin(), all.end(), [](const Row* r) { return std::string_view("exit.cpuid") == r->name; });
        return measure(row, mode, 32, [](const Row&, abi::Mode) {});
    }
    static void expect_invalid(const Measurement& m, std::string_view reason) {
        EXPECT_EQ(m.verdict, Verdict::invalid);
        EXPECT_NE(m.reason.find("a tick is not an instruction here: "), std::string::npos) << m.reason;
        EXPECT_NE(m.reason.find(reason), std::string::npos) << m.reason;
        EXPECT_FALSE(m.summary || m.slope || m.stamped_p50 || m.parts.exit);
    }
    // Samples of a clock that does what `taken` says.
    template <class F>
    static std::vector<client::Sample> samples(F taken) {
        std::vector<client::Sample> out;
        for (const CountedPair& pair : front::counted_pairs()) {
            out.push_back({.start = 100, .end = 100 + front::instructions_of_a_pair + taken(pair), .es = 1});
        }
        return out;
    }

    test::FakeTarget* target;
};

TEST_F(TickProofTest, a_clock_that_counts_is_proved_once_a_launch_in_every_mode) {
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    EXPECT_EQ(target->counted_runs, 4u) << "native, nested, shadow, vtlb";
    ASSERT_EQ(Session::get().tick_proofs().size(), 1u);
    EXPECT_EQ(Session::get().tick_proofs()[0].pairs, 4 * front::counted_pairs().size());
}

TEST_F(TickProofTest, a_coarse_clock_leaves_no_row_a_number) {
    target->behaviour.coarse = 4;
    expect_invalid(cpuid(), " took ");
    expect_invalid(cpuid(abi::Mode::native), " ticks, not ");
    EXPECT_EQ(target->runs, 0u) << "nothing is measured with such a clock";
}

TEST_F(TickProofTest, an_instruction_that_takes_no_tick_is_seen) {
    target->behaviour.free_cpuid = true;
    expect_invalid(cpuid(), "100 CPUIDs took 0 ticks, not 100 (5 of ");
}

TEST_F(TickProofTest, every_start_of_the_target_is_proved_anew) {
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    target->behaviour.coarse = 2;
    target->start_afresh();
    expect_invalid(cpuid(), " took ");
    target->behaviour.coarse = 1;
    target->start_afresh();
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    ASSERT_EQ(Session::get().tick_proofs().size(), 3u);
    EXPECT_NE(Session::get().tick_proofs()[1].wrong, "");
}

TEST_F(TickProofTest, a_target_whose_ticks_are_no_instructions_proves_nothing) {
    target->set_counts_instructions(false);
    target->behaviour.coarse = 4;
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    EXPECT_EQ(target->counted_runs, 0u);
}

TEST_F(TickProofTest, an_emulator_that_passes_for_hardware_is_found_by_its_clock) {
    for (const client::TickRules& rules :
         {client::TickRules{}, client::TickRules{.exiting_counts = false, .string_end_counts = true}}) {
        target->set_tick_rules(rules);
        target->set_real_time();
        target->start_afresh();
        try {
            (void)Session::get().hello();
            ADD_FAILURE() << "taken for hardware";
        } catch (const client::TargetUnusable& unusable) {
            EXPECT_STREQ(unusable.what(),
                         "fake: its TSC counts instructions, so it is an emulator and has no "
                         "cycles: say time=instructions");
        }
    }
}

TEST_F(TickProofTest, a_clock_that_does_not_count_passes_for_hardware_once_a_start) {
    target->set_real_time();
    target->behaviour.coarse = 2;
    target->start_afresh();
    EXPECT_NO_THROW((void)Session::get().hello());
    const unsigned runs = target->counted_runs;
    EXPECT_GT(runs, 0u);
    EXPECT_NO_THROW((void)Session::get().hello());
    EXPECT_EQ(target->counted_runs, runs);
}

TEST_F(TickProofTest, a_declared_step_is_held_to_its_step) {
    target->set_tick_rules({.step = 5});
    target->behaviour.coarse = 5;
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    target->behaviour.coarse = 1; // finer than declared is not as declared either
    target->start_afresh();
    expect_invalid(cpuid(), " took ");
    target->behaviour.coarse = 10;
    target->start_afresh();
    expect_invalid(cpuid(), " took ");
}

TEST_F(TickProofTest, rules_of_an_emulator_are_held_too) {
    const client::TickRules qemu{.step = 1, .exiting_counts = false, .string_end_counts = true};
    target->set_tick_rules(qemu);
    EXPECT_EQ(cpuid().verdict, Verdict::pass);
    constexpr u64 exit = 19;
    const auto as_bochs = samples([=](const CountedPair& p) { return front::due_ticks(p, {}, exit); });
    EXPECT_EQ(front::judge_ticks(as_bochs, {}, exit), "");
    EXPECT_NE(front::judge_ticks(as_bochs, {.exiting_counts = false}, exit), "");
    EXPECT_NE(front::judge_ticks(as_bochs, {.string_end_counts = true}, exit), "");
}

TEST_F(TickProofTest, one_tick_too_many_or_too_few_in_any_pair_is_seen) {
    for (const CountedPair& odd : front::counted_pairs()) {
        for (const int error : {-1, 1}) {
            const auto off = samples([&](const CountedPair& p) {
                return front::due_ticks(p, {}, std::nullopt) + static_cast<u64>(&p == &odd ? error : 0);
            });
            EXPECT_NE(front::judge_ticks(off, {}, std::nullopt), "") << odd.count << ' ' << odd.what;
        }
    }
}

TEST_F(TickProofTest, lost_exits_and_other_ends_are_no_proof) {
    target->behaviour.lost_cpuids = 1;
    expect_invalid(cpuid(), "exits by CPUID where");
    target->behaviour.lost_cpuids = 0;
    target->behaviour.counted = abi::Outcome::deadline;
    target->start_afresh();
    expect_invalid(cpuid(), "ended by deadline");
}

TEST_F(TickProofTest, the_lengths_are_those_that_the_text_has) {
    // In mode native every instruction is one tick, so the bytes of a straight run say how many there are.
    u64 nops = 0, cpuids = 0;
    const auto code = front::counted_guest().bytes();
    for (usize i = 0; i + 1 < code.size(); ++i) {
        nops += code[i] == 0x90 ? 1 : 0;
        cpuids += code[i] == 0x0f && code[i + 1] == 0xa2 ? 1 : 0;
    }
    u64 due_nops = 0, due_cpuids = 0;
    for (const CountedPair& pair : front::counted_pairs()) {
        due_nops += std::string_view(pair.what) == "NOPs" ? pair.count : 0;
        due_cpuids += pair.kind == CountedPair::Kind::cpuid ? pair.count : 0;
    }
    EXPECT_EQ(nops, due_nops);
    EXPECT_EQ(cpuids, due_cpuids);
}

} // namespace
} // namespace refhv::bench
