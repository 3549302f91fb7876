// SPDX-License-Identifier: MIT
// The six modes of an 8254 by its data sheet (231164).
#include "conformance/test/monitor/pit_fixture.hpp"

namespace refhv::monitor {
namespace {

class PitTest : public test::PitFixture {};

using test::Counts;

TEST_F(PitTest, mode_0_rises_at_its_end) {
    gate(true);
    start(0, 4);
    EXPECT_EQ(outs(0, 9), "000001111") << "N + 1 clocks after the write";
    start(0, 4);
    EXPECT_FALSE(out());
    EXPECT_EQ(counts(9, 6), Counts({4, 3, 2, 1, 0, 0xffff})) << "and the counting goes on";
    gate(false);
    at(20);
    EXPECT_EQ(count(), 0xffff) << "the gate stops it";
    gate(true);
    at(21);
    EXPECT_EQ(count(), 0xfffe);
    start(0, 10);
    at(23);
    gate(false);
    at(50);
    EXPECT_FALSE(out());
    gate(true);
    EXPECT_EQ(outs(50, 11), "00000000011") << "one was counted before";
    pit.write(2, 1, 5);
    EXPECT_FALSE(out()) << "the first byte stops it, OUT falls at once";
    at(90);
    EXPECT_FALSE(out());
    pit.write(2, 1, 0);
    EXPECT_EQ(outs(90, 8), "00000011");
    gate(false);
    put(3);
    at(120);
    EXPECT_FALSE(out()) << "written while the gate is closed";
    EXPECT_EQ(count(), 3);
}

TEST_F(PitTest, mode_1_is_triggered_by_the_gate) {
    start(1, 3);
    EXPECT_EQ(outs(0, 4), "1111");
    gate(true);
    EXPECT_EQ(outs(4, 6), "000111");
    gate(false);
    EXPECT_EQ(outs(10, 2), "11");
    gate(true);
    EXPECT_EQ(outs(12, 2), "00");
    gate(false);
    at(14);
    gate(true);
    EXPECT_EQ(outs(14, 6), "000011") << "triggered anew";
    put(5);
    EXPECT_EQ(outs(20, 3), "111") << "a new count waits for the next trigger";
    EXPECT_EQ(status() & 0x40, 0x40);
    gate(false);
    gate(true);
    at(23);
    EXPECT_EQ(count(), 5);
    EXPECT_EQ(status() & 0x40, 0);
}

TEST_F(PitTest, mode_2_divides) {
    gate(true);
    start(2, 3);
    EXPECT_EQ(outs(0, 9), "111011011");
    EXPECT_EQ(counts(10, 4), Counts({3, 2, 1, 3}));
    put(5);
    EXPECT_EQ(status() & 0x40, 0x40) << "null: not in the counter yet";
    EXPECT_EQ(counts(14, 7), Counts({2, 1, 5, 4, 3, 2, 1})) << "a new count waits for the end of the period";
    gate(false);
    EXPECT_TRUE(out()) << "a closed gate raises OUT at once";
    at(40);
    EXPECT_TRUE(out());
    gate(true);
    EXPECT_EQ(outs(40, 12), "111110111101") << "and opens with a whole period";
}

TEST_F(PitTest, mode_3_is_a_square_wave) {
    gate(true);
    start(3, 4);
    EXPECT_EQ(outs(0, 10), "1110011001");
    EXPECT_EQ(counts(13, 4), Counts({4, 2, 4, 2}));
    start(3, 5);
    EXPECT_EQ(outs(17, 11), "11100111001");
    EXPECT_EQ(counts(32, 6), Counts({4, 2, 0, 4, 2, 4})) << "odd: high for one clock more";
    put(8); // in the first half of 5
    EXPECT_EQ(outs(38, 14), "11000011110000");
    put(4); // in the second half of 8
    EXPECT_EQ(outs(52, 8), "11001100");
    control(0xb6);
    EXPECT_TRUE(out()) << "the control word sets OUT";
}

TEST_F(PitTest, a_period_of_one_is_none) {
    for (const u8 mode : {2, 3}) {
        control(static_cast<u8>(0x10 | mode << 1));
        pit.write(0, 1, 1);
        EXPECT_EQ(pit.due(), std::nullopt);
        control(static_cast<u8>(0x10 | mode << 1));
        pit.write(0, 1, 2);
        EXPECT_EQ(pit.due(), time_of(3, Pit::hertz));
    }
}

TEST_F(PitTest, mode_4_strobes_once) {
    gate(true);
    start(4, 3);
    EXPECT_EQ(outs(0, 8), "11110111");
    EXPECT_EQ(status() & 0xbf, 0x80 | 0x38);
    put(2);
    EXPECT_EQ(outs(8, 5), "11011") << "written at tick 7";
}

TEST_F(PitTest, mode_5_strobes_when_triggered) {
    start(5, 3);
    EXPECT_EQ(outs(0, 3), "111");
    gate(true);
    EXPECT_EQ(outs(3, 6), "111011");
    gate(false);
    gate(true);
    at(10);
    gate(false);
    gate(true);
    EXPECT_EQ(outs(10, 7), "1111011");
}

TEST_F(PitTest, decimal_counts) {
    gate(true);
    start(2, 0x1000, 1);
    at(1);
    EXPECT_EQ(count(), 0x1000);
    at(2);
    EXPECT_EQ(count(), 0x0999);
    start(0, 0, 1);
    at(3);
    EXPECT_EQ(count(), 0) << "10,000";
    at(4);
    EXPECT_EQ(count(), 0x9999);
    EXPECT_EQ(outs(10'002, 2), "01");
}

TEST_F(PitTest, a_count_of_zero_is_65536) {
    gate(true);
    start(0, 0);
    EXPECT_EQ(outs(0x1'0000, 2), "01");
}

} // namespace
} // namespace refhv::monitor
