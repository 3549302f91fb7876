// SPDX-License-Identifier: MIT
// What an 8254's ports show by its data sheet (231164), port 61H, and the line of counter 0.
#include "conformance/test/monitor/device_harness.hpp"
#include "conformance/test/monitor/pit_fixture.hpp"

namespace refhv::monitor {
namespace {

class PitPorts : public test::PitFixture {};

TEST_F(PitPorts, a_latched_count_waits_to_be_read) {
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

TEST_F(PitPorts, single_bytes) {
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

TEST_F(PitPorts, read_back) {
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
    control(0xc8);      // all of 2
    control(0xce & ~8); // all of 0 and 1
    EXPECT_EQ(pit.read(1, 1), 0x70U);
    at(51);
    static_cast<void>(count());
    control(0x34 | 2 << 1); // mode 6 is 2
    control(0xe2);
    EXPECT_EQ(pit.read(0, 1), 0xf4U);
    EXPECT_EQ(pit.read(3, 1), 0xffU);
}

TEST_F(PitPorts, port_61h) {
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

TEST_F(PitPorts, the_line_follows_counter_0) {
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

TEST_F(PitPorts, a_square_wave_that_was_late) {
    control(0x36);
    pit.write(0, 1, 1000 & 0xff);
    pit.write(0, 1, 1000 >> 8);
    at(700); // low since 501
    EXPECT_FALSE(edges.back());
    edges.clear();
    at(1700); // it rose at 1001, and fell
    EXPECT_EQ(edges, (std::vector<bool>{true, false}));
    at(2100);
    pit.write(0, 1, 100); // for the low half that begins at 2501
    pit.write(0, 1, 0);
    EXPECT_EQ(pit.due(), time_of(2551, Pit::hertz));
    at(2551);
    EXPECT_EQ(pit.due(), time_of(2651, Pit::hertz));
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
