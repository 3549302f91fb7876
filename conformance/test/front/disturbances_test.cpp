// SPDX-License-Identifier: MIT
// The rule on disturbances (docs/method.md), on made-up counters, and where those are read.
#include "conformance/test/front/file_machine.hpp"
#include "refhv/front/disturbances.hpp"
#include "refhv/x86/disturbance_msrs.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace refhv::front {
namespace {

// Values in the order of Counter; nullopt from the first that is not given.
Moment moment(std::initializer_list<u64> values) {
    Moment out;
    usize i = 0;
    for (const u64 value : values) {
        out[i++].value = value;
    }
    return out;
}

constexpr u64 second = 1'000'000'000;

TEST(Disturbances, nothing_that_came_between_is_nothing_to_flag) {
    const Moment before = moment({7, 1000, 1000, 0, 0, 3, 4, 100, 5, 0, 0});
    const Moment after = moment({7, 3000, 3000, 0, 0, 3, 4, 350, 5, 3 * second, second});
    const Between found = between(before, after);
    EXPECT_EQ(found.smis, 0u);
    EXPECT_EQ(found.interrupts, 250u);
    EXPECT_EQ(found.nmis, 0u);
    EXPECT_EQ(found.throttles, 0u);
    EXPECT_EQ(found.frequency, 1.0);
    EXPECT_EQ(found.tsc_hz, 3e9);
    EXPECT_TRUE(flags_of(found, usual_of({found})).empty());
}

TEST(Disturbances, smis_and_throttling_are_flagged_with_their_number) {
    const Between found = between(moment({7, 0, 0, 0, 0, 3, 4}), moment({9, 0, 0, 0, 0, 4, 6}));
    const auto flags = flags_of(found, {});
    ASSERT_EQ(flags.size(), 2u);
    EXPECT_TRUE(flags[0].starts_with("2 SMIs ")) << flags[0];
    EXPECT_NE(flags[1].find("throttled 3 times"), std::string::npos) << flags[1];
}

// SDM 3B: log bits stay until software clears them.
TEST(Disturbances, a_thermal_limit_is_flagged_if_it_came_or_is_in_force) {
    constexpr u64 prochot = 1u << 2, prochot_log = 1u << 3, power_log = 1u << 11;
    const auto limits = [](u64 before, u64 after) {
        return between(moment({0, 0, 0, before, before}), moment({0, 0, 0, after, after})).thermal;
    };
    EXPECT_TRUE(limits(prochot_log, prochot_log).empty()) << "it was set before";
    EXPECT_EQ(limits(0, power_log), (std::vector<std::string>{"power limit", "package: power limit"}));
    EXPECT_EQ(limits(prochot | prochot_log, prochot_log),
              (std::vector<std::string>{"PROCHOT", "package: PROCHOT"}));
    EXPECT_EQ(flags_of(between(moment({0, 0, 0, 0, 0}), moment({0, 0, 0, power_log, 0})), {}).size(), 1u);
}

TEST(Disturbances, a_row_at_another_frequency_than_most_is_flagged) {
    const auto at = [](u64 aperf) { return between(moment({0, 0, 0}), moment({0, aperf, 1000})); };
    const Usual usual = usual_of({at(1200), at(1200), at(800)});
    EXPECT_EQ(usual.frequency, 1.2);
    EXPECT_TRUE(flags_of(at(1200), usual).empty());
    EXPECT_TRUE(flags_of(at(1220), usual).empty()) << "within 2 %";
    EXPECT_EQ(flags_of(at(1230), usual).size(), 1u);
    EXPECT_EQ(flags_of(at(800), usual).size(), 1u);
}

TEST(Disturbances, a_tsc_that_leaves_its_rate_is_flagged) {
    const auto at = [](u64 ticks) {
        return between(moment({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
                       moment({0, 0, 0, 0, 0, 0, 0, 0, 0, ticks, second}));
    };
    const Usual usual = usual_of({at(2'000'000'000), at(2'000'000'000), at(2'000'100'000)});
    EXPECT_TRUE(flags_of(at(2'001'000'000), usual).empty()) << "within 0.1 %";
    EXPECT_EQ(flags_of(at(2'003'000'000), usual).size(), 1u);
}

TEST(Disturbances, what_was_not_read_or_fell_is_told_as_unknown) {
    const Between found = between(moment({7, 2000, 2000}), moment({5, 1000, 1000}));
    EXPECT_FALSE(found.smis || found.frequency || found.tsc_hz || found.interrupts || found.throttles);
    EXPECT_TRUE(flags_of(found, {1.0, 2e9}).empty());
}

class DisturbanceReading : public FileMachine {
  protected:
    // A CPU with all of it, by its leaves.
    static client::HelloInfo cpu(u32 vendor) {
        return {.fixed = {},
                .cpuid = {{0, 0, 6, vendor, 0, 0}, {1, 0, 0, 0, 0, 1u << 22}, {6, 0, 1u << 6, 0, 1, 0}},
                .msrs = {},
                .cpus = {}};
    }
    static const Reading& of(const Moment& moment, Counter counter) {
        return moment[static_cast<usize>(counter)];
    }

    static constexpr u32 intel = 0x756e'6547, amd = 0x6874'7541;
};

TEST_F(DisturbanceReading, the_counts_are_those_of_the_cpu) {
    put("proc/interrupts", "           CPU0       CPU2\n"
                           "  0:         10         20   IO-APIC   2-edge      timer 7\n"
                           "NMI:          1          3   Non-maskable interrupts\n"
                           "LOC:        100        200   Local timer interrupts\n"
                           "ERR:          5\n");
    put("sys/devices/system/cpu/cpu2/thermal_throttle/core_throttle_count", "6\n");
    const client::HelloInfo leaves = cpu(intel);
    const Moment read = read_moment({.root = root, .cpu = 2, .leaves = &leaves});
    EXPECT_EQ(of(read, Counter::interrupts).value, 220u);
    EXPECT_EQ(of(read, Counter::nmis).value, 3u);
    EXPECT_EQ(of(read, Counter::core_throttles).value, 6u);
    EXPECT_FALSE(of(read, Counter::package_throttles).value);
    EXPECT_FALSE(of(read, Counter::package_throttles).reason.empty());
    EXPECT_NE(of(read, Counter::smis).reason.find("modprobe msr"), std::string::npos);
    EXPECT_TRUE(of(read, Counter::tsc).value && of(read, Counter::clock_ns).value);
    const Moment other = read_moment({.root = root, .cpu = 1, .leaves = &leaves});
    EXPECT_EQ(of(other, Counter::nmis).reason, "/proc/interrupts has no CPU1");
}

TEST_F(DisturbanceReading, msrs_are_those_of_the_hello_where_the_cpu_has_them) {
    using namespace x86::msr;
    const std::vector<abi::MsrValue> msrs{{smi_count, 1, 0xffff'ffff'0000'0005},
                                          {aperf, 1, 70},
                                          {mperf, 1, 50},
                                          {therm_status, 0, 0},
                                          {package_therm_status, 1, 8}};
    const client::HelloInfo leaves = cpu(intel), others = cpu(amd);
    const Moment read = read_moment({.root = "", .cpu = {}, .leaves = &leaves, .msrs = &msrs});
    EXPECT_EQ(of(read, Counter::smis).value, 5u) << "bits 31:0";
    EXPECT_EQ(of(read, Counter::aperf).value, 70u);
    EXPECT_EQ(of(read, Counter::mperf).value, 50u);
    EXPECT_EQ(of(read, Counter::therm_status).reason, "RDMSR raised #GP");
    EXPECT_EQ(of(read, Counter::package_therm_status).value, 8u);
    EXPECT_FALSE(of(read, Counter::interrupts).reason.empty()) << "another machine's files";
    const Moment of_amd = read_moment({.root = "", .cpu = {}, .leaves = &others, .msrs = &msrs});
    EXPECT_EQ(of(of_amd, Counter::aperf).value, 70u);
    EXPECT_FALSE(of(of_amd, Counter::smis).value);
    EXPECT_FALSE(of(of_amd, Counter::package_therm_status).value);
    const client::HelloInfo bare;
    EXPECT_FALSE(
        of(read_moment({.root = "", .cpu = {}, .leaves = &bare, .msrs = &msrs}), Counter::aperf).value);
}

} // namespace
} // namespace refhv::front
