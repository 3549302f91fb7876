// SPDX-License-Identifier: MIT
// The 8254 by its data sheet (231164), and port 61H.
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/clock.hpp"
#include "refhv/monitor/device/pit.hpp"

#include <string>

namespace refhv::monitor {
namespace {

class PitTest : public ::testing::Test {
  protected:
    // The clock comes to that tick of the counters'.
    void at(u64 tick) { pit.pass(time_of(tick, Pit::hertz)); }
    void control(u8 word) { pit.write(3, 1, word); }
    // Counter 2, whose OUT can be read, low byte first.
    void start(u8 mode, u16 count, u8 bcd = 0) {
        control(static_cast<u8>(0xb0 | mode << 1 | bcd));
        put(count);
    }
    void put(u16 count) {
        pit.write(2, 1, count & 0xff);
        pit.write(2, 1, count >> 8);
    }
    u16 count() {
        control(0x80);
        const u64 low = pit.read(2, 1);
        return static_cast<u16>(pit.read(2, 1) << 8 | low);
    }
    bool out() { return (pit.read(Pit::port_b, 1) & 0x20) != 0; }
    void gate(bool open) { pit.write(Pit::port_b, 1, open); }
    u8 status() {
        control(0xe8);
        return static_cast<u8>(pit.read(2, 1));
    }
    // OUT at each of the ticks from `first` on, as digits.
    std::string outs(u64 first, u64 ticks) {
        std::string seen;
        for (u64 i = 0; i < ticks; i++) {
            at(first + i);
            seen += out() ? '1' : '0';
        }
        return seen;
    }
    std::vector<unsigned> counts(u64 first, u64 ticks) {
        std::vector<unsigned> seen;
        for (u64 i = 0; i < ticks; i++) {
            at(first + i);
            seen.push_back(count());
        }
        return seen;
    }

    std::vector<bool> edges;
    Pit pit{[this](bool level) { edges.push_back(level); }};
};

using Counts = std::vector<unsigned>;

// A count written at tick 0 is loaded at tick 1.

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
    control(0xb6);
    EXPECT_TRUE(out()) << "the control word sets OUT";
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

TEST_F(PitTest, a_latched_count_waits_to_be_read) {
    gate(true);
    start(0, 0x1234);
    at(1);
    control(0x80);
    at(100);
    control(0x80); // ignored while the first waits
    EXPECT_EQ(pit.read(2, 1), 0x34U);
    EXPECT_EQ(pit.read(2, 1), 0x12U);
    EXPECT_EQ(pit.read(2, 1), (0x1234U - 99) & 0xff) << "then what is counted";
    EXPECT_EQ(pit.read(2, 1), (0x1234U - 99) >> 8);
    control(0x80);
    start(0, 0x5678);
    at(101);
    EXPECT_EQ(pit.read(2, 1), 0x78U) << "a control word ends it";
}

TEST_F(PitTest, single_bytes) {
    gate(true);
    control(0x90);
    pit.write(2, 1, 7);
    at(1);
    EXPECT_EQ(pit.read(2, 1), 7U);
    EXPECT_EQ(pit.read(2, 1), 7U);
    control(0xa0);
    pit.write(2, 1, 7);
    at(2);
    EXPECT_EQ(pit.read(2, 1), 7U);
    at(3);
    EXPECT_EQ(pit.read(2, 1), 6U) << "06FF";
    control(0x80);
    at(0x300);
    EXPECT_EQ(pit.read(2, 1), 6U) << "latched";
    EXPECT_EQ(pit.read(2, 1), 4U) << "and read by one byte";
}

TEST_F(PitTest, read_back) {
    gate(true);
    start(3, 0x100, 1);
    EXPECT_EQ(status(), 0xf7) << "OUT, null, two bytes, mode 3, decimal";
    at(1);
    EXPECT_EQ(status(), 0xb7);
    control(0xc8); // status and count
    at(50);
    control(0xc8); // neither again
    EXPECT_EQ(pit.read(2, 1), 0xb7U);
    EXPECT_EQ(pit.read(2, 1), 0x00U);
    EXPECT_EQ(pit.read(2, 1), 0x01U);
    control(0xde); // count alone, of all; counter 0 has none yet
    control(0xe2); // status of 0
    EXPECT_EQ(pit.read(0, 1), 0x70U);
    control(0x34 | 2 << 1); // mode 6 is 2
    control(0xe2);
    EXPECT_EQ(pit.read(0, 1), 0xf4U);
    EXPECT_EQ(pit.read(3, 1), 0xffU);
}

TEST_F(PitTest, port_61h) {
    pit.write(Pit::port_b, 1, 0xff);
    EXPECT_EQ(pit.read(Pit::port_b, 1) & 0xcf, 0xfU);
    unsigned toggles = 0;
    u64 last = pit.read(Pit::port_b, 1) & 0x10;
    for (Time now = 0; now <= 10'000'000; now += 1000) {
        pit.pass(now);
        const u64 bit = pit.read(Pit::port_b, 1) & 0x10;
        toggles += bit != last ? 1 : 0;
        last = bit;
    }
    EXPECT_NEAR(toggles, 663, 1) << "refresh, each 15.1 us of 10 ms";
}

TEST_F(PitTest, the_line_follows_counter_0) {
    EXPECT_EQ(edges, std::vector<bool>());
    EXPECT_EQ(pit.due(), std::nullopt);
    control(0x34); // mode 2: OUT is high
    EXPECT_EQ(edges, std::vector<bool>{true});
    pit.write(0, 1, 11932 & 0xff);
    pit.write(0, 1, 11932 >> 8); // 100 Hz
    EXPECT_EQ(pit.due(), time_of(11933, Pit::hertz));
    edges.clear();
    u64 rises = 0;
    for (unsigned i = 0; i < 100; i++) {
        pit.pass(pit.due().value());
        rises += edges.size();
        EXPECT_TRUE(edges.empty() || edges.back());
        edges.clear();
    }
    EXPECT_EQ(rises, 200U) << "down and up, each period";
    EXPECT_EQ(pit.due(), time_of(1 + 101 * 11932, Pit::hertz)) << "without drift";
    pit.pass(10 * second);
    EXPECT_EQ(edges, (std::vector<bool>{false, true})) << "what was missed is one";
    control(0x30);
    EXPECT_FALSE(edges.back());
    EXPECT_EQ(pit.due(), std::nullopt);
    pit.write(0, 2, 0x1010);
    EXPECT_EQ(pit.due(), std::nullopt) << "a wide access is a byte to each of two ports";
    pit.write(0, 1, 0x10);
    const auto due = pit.due();
    pit.pass(due.value());
    EXPECT_TRUE(edges.back());
    EXPECT_EQ(pit.due(), std::nullopt) << "mode 0 rises once";
}

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<Pit>([&](bool level) { log.push_back(level ? 1 : 0); });
                },
            .extent = 5,
            .favourites = {0, 2, 3, 4}};
}

TEST(PitRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(PitRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(PitRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
