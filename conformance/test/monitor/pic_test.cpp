// SPDX-License-Identifier: MIT
// The 8259A pair by its data sheet (231468), and the ELCR by the PIIX4's (290562, 4.2.5).
#include "conformance/test/monitor/device_harness.hpp"
#include "conformance/test/monitor/pic_fixture.hpp"

namespace refhv::monitor {
namespace {

using test::Vectors;

class PicTest : public test::PicFixture {};

TEST_F(PicTest, masked_until_it_is_initialized) {
    PicPair fresh;
    fresh.set(0, true);
    EXPECT_FALSE(fresh.pending());
    EXPECT_EQ(fresh.read(1, 1), 0xffU);
}

TEST_F(PicTest, an_edge_is_one_interrupt) {
    pics.set(3, true);
    EXPECT_TRUE(pics.pending());
    EXPECT_EQ(irr(), 8);
    EXPECT_EQ(pics.acknowledge(), 0x33);
    EXPECT_EQ(irr(), 0);
    EXPECT_EQ(isr(), 8);
    EXPECT_FALSE(pics.pending());
    command(0x20);
    EXPECT_EQ(isr(), 0);
    EXPECT_FALSE(pics.pending()) << "the line is high still, and that is no edge";
    pics.set(3, true);
    EXPECT_FALSE(pics.pending());
    pulse(3);
    EXPECT_TRUE(pics.pending());
}

TEST_F(PicTest, by_priority_fully_nested) {
    for (unsigned irq = 0; irq < 16; irq++) {
        pics.set(irq, true);
    }
    EXPECT_EQ(taken(), Vectors({0x30, 0x31, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x33, 0x34, 0x35,
                                0x36, 0x37}));
    pics.set(5, false);
    pulse(4);
    EXPECT_EQ(pics.acknowledge(), 0x34);
    pulse(5);
    EXPECT_FALSE(pics.pending()) << "lower than what is in service";
    pulse(4);
    EXPECT_FALSE(pics.pending()) << "itself in service";
    pulse(0);
    EXPECT_EQ(pics.acknowledge(), 0x30) << "higher ones go on";
    EXPECT_EQ(isr(), 0x11);
    command(0x20);
    EXPECT_EQ(isr(), 0x10) << "EOI ends the highest";
    command(0x20);
    EXPECT_EQ(pics.acknowledge(), 0x34);
}

TEST_F(PicTest, masks) {
    mask(0x10);
    EXPECT_EQ(pics.read(1, 1), 0x10U);
    pics.set(4, true);
    EXPECT_FALSE(pics.pending());
    EXPECT_EQ(irr(), 0x10) << "the request waits";
    mask(0);
    EXPECT_EQ(pics.acknowledge(), 0x34);
    mask(4);
    pics.set(9, true);
    EXPECT_FALSE(pics.pending()) << "the slave as a whole";
}

TEST_F(PicTest, a_request_that_goes_is_a_spurious_seven) {
    pics.set(3, true);
    pics.set(3, false);
    EXPECT_FALSE(pics.pending());
    EXPECT_EQ(pics.acknowledge(), 0x37);
    EXPECT_EQ(isr(), 0) << "and nothing is in service";
    pics.set(9, true);
    mask(0xff, 1);
    EXPECT_FALSE(pics.pending());
    mask(0, 1);
    EXPECT_TRUE(pics.pending());
}

TEST_F(PicTest, levels_last_until_they_fall) {
    pics.write(PicPair::elcr_ports, 2, 0xffff);
    EXPECT_EQ(pics.read(PicPair::elcr_ports, 2), 0xdef8U) << "0, 1, 2, 8 and 13 stay edge-triggered";
    pics.set(11, true);
    EXPECT_EQ(pics.acknowledge(), 0x3b);
    EXPECT_EQ(irr(1), 8);
    EXPECT_FALSE(pics.pending());
    command(0x20, 1);
    command(0x20);
    EXPECT_EQ(pics.acknowledge(), 0x3b);
    pics.set(11, false);
    command(0x20, 1);
    command(0x20);
    EXPECT_FALSE(pics.pending());
    pics.write(PicPair::elcr_ports, 1, 0);
    pics.set(5, true);
    EXPECT_EQ(taken(), Vectors({0x35}));
    pics.write(PicPair::elcr_ports, 1, 0x20);
    EXPECT_TRUE(pics.pending()) << "its level counts from now on";
}

TEST_F(PicTest, rotation) {
    command(0xc2); // 2 is lowest
    for (unsigned irq : {0, 1, 3, 4, 7}) {
        pics.set(irq, true);
    }
    EXPECT_EQ(taken(), Vectors({0x33, 0x34, 0x37, 0x30, 0x31}));
    command(0xc7);
    pulse(0);
    pulse(1);
    EXPECT_EQ(pics.acknowledge(), 0x30);
    command(0xa0); // EOI, and what was served goes to the end
    EXPECT_EQ(isr(), 0);
    pulse(0);
    EXPECT_EQ(taken(), Vectors({0x31, 0x30}));
    command(0xe4); // EOI of 4, and 4 to the end
    pulse(4);
    pulse(7);
    EXPECT_EQ(taken(), Vectors({0x37, 0x34}));
}

TEST_F(PicTest, an_eoi_of_nothing_does_not_rotate) {
    command(0xc3);
    command(0xa0);
    pulse(0);
    pulse(4);
    EXPECT_EQ(taken(), Vectors({0x34, 0x30}));
}

TEST_F(PicTest, specific_and_empty_commands) {
    pulse(5);
    pulse(3);
    EXPECT_EQ(pics.acknowledge(), 0x33);
    pulse(1);
    EXPECT_EQ(pics.acknowledge(), 0x31);
    command(0x40);
    EXPECT_EQ(isr(), 0xa) << "no operation";
    command(0x63);
    EXPECT_EQ(isr(), 0x2);
    command(0x63);
    EXPECT_EQ(isr(), 0x2) << "of one that is not in service";
    command(0x20);
    command(0x20);
    EXPECT_EQ(taken(), Vectors({0x35}));
}

TEST_F(PicTest, initialization) {
    mask(0x55);
    pulse(3);
    pulse(1);
    static_cast<void>(pics.acknowledge());
    command(0xc4);
    command(0xb);
    pics.write(0, 1, 0x10); // no ICW4
    EXPECT_EQ(pics.read(0, 1), 0U) << "the edges are forgotten, and the IRR is read";
    pics.write(1, 1, 0x47);
    pics.write(1, 1, 4);
    EXPECT_EQ(pics.read(1, 1), 0U) << "nothing is masked";
    pics.write(1, 1, 0x80);
    EXPECT_EQ(pics.read(1, 1), 0x80U) << "that was OCW1";
    pulse(7);
    EXPECT_EQ(pics.read(0, 1), 0x80U) << "the IRR, though it was the ISR before";
    pulse(3);
    EXPECT_EQ(pics.acknowledge(), 0x43) << "7 is the lowest again, and the vector's low bits are the input's";
    pics.write(0, 1, 0x12); // single: no ICW3 either
    pics.write(1, 1, 0x50);
    pics.write(1, 1, 0x21);
    EXPECT_EQ(pics.read(1, 1), 0x21U);
}

TEST_F(PicTest, inputs_that_are_nobody_s) {
    pics.set(2, true);
    pics.set(16, true);
    pics.set(~0U, true);
    EXPECT_FALSE(pics.pending());
    EXPECT_EQ(irr() | irr(1), 0);
}

TEST_F(PicTest, the_ports_follow_each_other) {
    pics.write(PicPair::slave_ports + 1, 1, 0x5a);
    EXPECT_EQ(pics.read(3, 1), 0x5aU);
    pics.write(PicPair::elcr_ports, 1, 0xf8);
    EXPECT_EQ(pics.read(4, 1), 0xf8U);
    EXPECT_EQ(pics.read(6, 1), 0xffU) << "no such register";
}

TEST_F(PicTest, the_vector_is_told_before_it_is_acknowledged) {
    EXPECT_EQ(pics.vector(), std::nullopt);
    for (const unsigned irq : {3u, 12u, 1u}) {
        pics.set(irq, true);
        const auto told = pics.vector();
        ASSERT_TRUE(told) << irq;
        EXPECT_EQ(pics.vector(), told) << "asking takes nothing";
        EXPECT_TRUE(pics.pending());
        EXPECT_EQ(pics.acknowledge(), *told);
    }
    EXPECT_EQ(pics.vector(), std::nullopt) << "what is in service keeps the rest away";
}

test::Subject subject() {
    return {.make = [](test::Log&) { return std::make_unique<PicPair>(); },
            .extent = 6,
            .act =
                [](Device& d, u64 random) {
                    auto& pics = static_cast<PicPair&>(d);
                    pics.set(random % 20, (random & 256) != 0);
                    if (pics.pending() && (random & 512) != 0) {
                        static_cast<void>(pics.acknowledge());
                    }
                },
            .favourites = {0, 2}};
}

TEST(PicRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(PicRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(PicRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
