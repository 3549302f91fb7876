// SPDX-License-Identifier: MIT
// ACPI's fixed hardware by ACPI 6.4, 4.8.3.
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/acpi_pm.hpp"
#include "refhv/monitor/device/clock.hpp"

namespace refhv::monitor {
namespace {

class AcpiPmTest : public ::testing::Test {
  protected:
    u64 status() { return pm.read(AcpiPm::event, 2); }
    void enable(u64 value) { pm.write(AcpiPm::event + 2, 2, value); }

    std::vector<unsigned> sleeps;
    std::vector<bool> edges;
    AcpiPm pm{[this](u8 type) { sleeps.push_back(type); }, [this](bool level) { edges.push_back(level); }};
};

TEST_F(AcpiPmTest, registers) {
    EXPECT_EQ(status(), 0U);
    enable(0xffff);
    EXPECT_EQ(pm.read(AcpiPm::event + 2, 2), 0x721U);
    EXPECT_EQ(pm.read(AcpiPm::event, 4), 0x721'0000U);
    EXPECT_EQ(pm.read(AcpiPm::control, 2), 1U) << "SCI_EN: in ACPI mode";
    pm.write(AcpiPm::control, 2, 0xdfff);
    EXPECT_EQ(pm.read(AcpiPm::control, 4), 0x1c03U) << "what is for writing reads as 0";
    pm.write(AcpiPm::control, 2, 0);
    EXPECT_EQ(pm.read(AcpiPm::control, 2), 1U);
    EXPECT_EQ(pm.read(12, 1), 0xffU);
    EXPECT_EQ(sleeps, std::vector<unsigned>());
}

TEST_F(AcpiPmTest, sleep) {
    pm.write(AcpiPm::control, 2, 5 << 10);
    EXPECT_EQ(sleeps.size(), 0U);
    pm.write(AcpiPm::control, 2, 5 << 10 | 1 << 13);
    pm.write(AcpiPm::control + 1, 1, 0x20 | 7 << 2);
    EXPECT_EQ(sleeps, std::vector<unsigned>({5, 7}));
}

TEST_F(AcpiPmTest, the_timer_has_32_bits_and_no_drift) {
    EXPECT_EQ(pm.read(AcpiPm::timer, 4), 0U);
    pm.pass(second);
    EXPECT_EQ(pm.read(AcpiPm::timer, 4), 3'579'545U);
    EXPECT_EQ(pm.read(AcpiPm::timer + 1, 1), 3'579'545U >> 8 & 0xff);
    pm.pass(7200 * second);
    EXPECT_EQ(pm.read(AcpiPm::timer, 4), 7200ULL * 3'579'545 % (1ULL << 32));
    pm.write(AcpiPm::timer, 4, 0);
    EXPECT_NE(pm.read(AcpiPm::timer, 4), 0U);
}

TEST_F(AcpiPmTest, the_carry_of_the_timer) {
    EXPECT_EQ(pm.due(), std::nullopt);
    enable(1);
    const Time carry = pm.due().value();
    EXPECT_NEAR(static_cast<double>(carry), 599.93e9, 1e7);
    pm.pass(carry - 1);
    EXPECT_EQ(status(), 0U);
    pm.pass(carry);
    EXPECT_EQ(status(), 1U);
    EXPECT_EQ(pm.read(AcpiPm::timer, 4), 0x8000'0000U);
    EXPECT_EQ(edges, std::vector<bool>{true});
    EXPECT_EQ(pm.due(), std::nullopt) << "until it is cleared";
    pm.write(AcpiPm::event, 2, 0xfffe);
    EXPECT_EQ(status(), 1U);
    pm.write(AcpiPm::event, 2, 1);
    EXPECT_EQ(status(), 0U);
    EXPECT_FALSE(edges.back());
    pm.pass(pm.due().value());
    EXPECT_EQ(pm.read(AcpiPm::timer, 4), 0U) << "and at the way back";
    EXPECT_EQ(status(), 1U);
}

TEST_F(AcpiPmTest, the_power_button) {
    pm.press_power_button();
    EXPECT_EQ(status(), 0x100U);
    EXPECT_EQ(edges.size(), 0U);
    enable(0x100);
    EXPECT_EQ(edges, std::vector<bool>{true});
    pm.write(AcpiPm::event + 1, 1, 1);
    EXPECT_EQ(edges, (std::vector<bool>{true, false}));
}

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<AcpiPm>(
                        [&](u8 type) { log.push_back(type); },
                        [&](bool level) { log.push_back(level ? 0x101 : 0x100); });
                },
            .extent = 12,
            .act = [](Device& d, u64) { static_cast<AcpiPm&>(d).press_power_button(); }};
}

TEST(AcpiPmRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(AcpiPmRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(AcpiPmRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
