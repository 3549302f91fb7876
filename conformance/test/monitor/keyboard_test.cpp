// SPDX-License-Identifier: MIT
// The 8042 with nothing plugged in, as the IBM PC AT's technical reference and Linux' i8042 driver know it.
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/keyboard.hpp"

namespace refhv::monitor {
namespace {

class KeyboardTest : public ::testing::Test {
  protected:
    u8 status() { return static_cast<u8>(keyboard.read(Keyboard::command, 1)); }
    u8 data() { return static_cast<u8>(keyboard.read(Keyboard::data, 1)); }
    void command(u8 value) { keyboard.write(Keyboard::command, 1, value); }
    void put(u8 value) { keyboard.write(Keyboard::data, 1, value); }
    // What a command answers; 100H if nothing.
    unsigned answer(u8 value) {
        command(value);
        return (status() & 1) != 0 ? data() : 0x100;
    }

    unsigned resets = 0;
    std::vector<bool> edges;
    Keyboard keyboard{[this] { resets++; }, [this](bool level) { edges.push_back(level); }};
};

TEST_F(KeyboardTest, commands) {
    EXPECT_EQ(status(), 0x10);
    EXPECT_EQ(answer(0xaa), 0x55U);
    EXPECT_EQ(status(), 0x1c) << "the system flag, and a command was the last";
    EXPECT_EQ(answer(0x20), 0x34U);
    command(0x60);
    put(0x41);
    EXPECT_EQ(status(), 0x10);
    EXPECT_EQ(answer(0x20), 0x41U);
    EXPECT_EQ(answer(0xad), 0x100U);
    EXPECT_EQ(answer(0x20), 0x51U);
    EXPECT_EQ(answer(0xa7), 0x100U);
    EXPECT_EQ(answer(0x20), 0x71U);
    command(0xae);
    command(0xa8);
    EXPECT_EQ(answer(0x20), 0x41U);
    EXPECT_EQ(answer(0xab), 1U) << "nothing is plugged in";
    EXPECT_EQ(answer(0xa9), 1U);
    command(0xd2);
    put(0x77);
    EXPECT_EQ(data(), 0x77);
    command(0xd3);
    put(0x5a);
    EXPECT_EQ(data(), 0xff) << "5AH would be an auxiliary interface";
    EXPECT_EQ(answer(0x55), 0x100U);
    EXPECT_EQ(keyboard.read(2, 1), 0xffU);
}

TEST_F(KeyboardTest, a_byte_for_a_keyboard_times_out) {
    put(0xf2);
    EXPECT_EQ(status(), 0x51);
    EXPECT_EQ(edges.size(), 0U) << "its interrupt is off";
    command(0x60);
    put(0x01);
    EXPECT_EQ(edges, std::vector<bool>{true}) << "the output is full still";
    EXPECT_EQ(data(), 0xfe);
    EXPECT_FALSE(edges.back());
    EXPECT_EQ(status() & 0x41, 0);
    command(0xd4);
    put(0xf2);
    EXPECT_EQ(data(), 0xfe);
    EXPECT_EQ(edges, (std::vector<bool>{true, false, true, false}));
}

TEST_F(KeyboardTest, resets) {
    command(0xff);
    command(0xf1);
    EXPECT_EQ(resets, 0U) << "bit 0 of the output port is not pulsed";
    command(0xfe);
    EXPECT_EQ(resets, 1U);
    EXPECT_EQ(answer(0xd0), 3U);
    command(0xd1);
    put(0x01);
    EXPECT_EQ(resets, 1U);
    EXPECT_EQ(answer(0xd0), 1U);
    command(0xd1);
    put(0x02);
    EXPECT_EQ(resets, 2U);
    command(0xd1);
    command(0xaa);
    put(0x00);
    EXPECT_EQ(resets, 2U) << "another command came between";
}

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<Keyboard>([&] { log.push_back(2); },
                                                      [&](bool level) { log.push_back(level ? 1 : 0); });
                },
            .extent = 5,
            .favourites = {0, 4}};
}

TEST(KeyboardRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(KeyboardRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(KeyboardRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
