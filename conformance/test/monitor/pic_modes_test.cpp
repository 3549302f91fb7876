// SPDX-License-Identifier: MIT
// The 8259A's modes beyond the fully nested one, by its data sheet (231468).
#include "conformance/test/monitor/pic_fixture.hpp"

namespace refhv::monitor {
namespace {

class PicModes : public test::PicFixture {};

TEST_F(PicModes, special_mask_mode_lets_lower_ones_through) {
    pulse(3);
    EXPECT_EQ(pics.acknowledge(), 0x33);
    pulse(6);
    mask(8);
    EXPECT_FALSE(pics.pending());
    command(0x68);
    EXPECT_EQ(pics.acknowledge(), 0x36);
    command(0x20);
    EXPECT_EQ(isr(), 8) << "a masked one is not ended by a nonspecific EOI";
    command(0x48);
    command(0x20);
    EXPECT_EQ(isr(), 0);
    command(0x28); // ESMM clear: SMM is not taken
    pulse(3);
    mask(0);
    EXPECT_EQ(pics.acknowledge(), 0x33);
    mask(8);
    pulse(6);
    EXPECT_FALSE(pics.pending());
}

TEST_F(PicModes, automatic_eoi) {
    initialize(3);
    pulse(4);
    EXPECT_EQ(pics.acknowledge(), 0x34);
    EXPECT_EQ(isr(), 0);
    command(0x80); // rotate on each
    pulse(0);
    pulse(1);
    EXPECT_EQ(pics.acknowledge(), 0x30);
    pulse(0);
    EXPECT_EQ(pics.acknowledge(), 0x31);
    EXPECT_EQ(pics.acknowledge(), 0x30);
    command(0x00);
    pulse(1);
    EXPECT_EQ(pics.acknowledge(), 0x31);
    pulse(0);
    pulse(1);
    EXPECT_EQ(pics.acknowledge(), 0x31) << "0 stays the lowest";
    EXPECT_EQ(pics.acknowledge(), 0x30);
    pulse(8);
    pulse(9);
    EXPECT_EQ(pics.acknowledge(), 0x38);
    EXPECT_EQ(pics.acknowledge(), 0x39) << "the slave asks again by itself";
}

TEST_F(PicModes, special_fully_nested_mode_hears_the_slave_again) {
    pulse(12);
    EXPECT_EQ(pics.acknowledge(), 0x3c);
    pulse(9);
    EXPECT_FALSE(pics.pending());
    initialize(0x11);
    pulse(12);
    EXPECT_EQ(pics.acknowledge(), 0x3c);
    pulse(9);
    EXPECT_EQ(pics.acknowledge(), 0x39);
    EXPECT_EQ(isr(), 4);
    EXPECT_EQ(isr(1), 0x12);
    command(0x20, 1);
    pulse(10);
    EXPECT_EQ(pics.acknowledge(), 0x3a);
    pulse(10);
    EXPECT_FALSE(pics.pending()) << "the slave's own 2 is an input like another";
}

TEST_F(PicModes, poll) {
    command(0xc, 0);
    EXPECT_EQ(pics.read(0, 1) & 0x80, 0U);
    pics.set(6, true);
    command(0xc, 0);
    EXPECT_EQ(pics.read(0, 1), 0x86U);
    EXPECT_EQ(isr(), 0x40);
    EXPECT_FALSE(pics.pending());
    pics.set(10, true);
    command(0xc, 1);
    EXPECT_EQ(pics.read(3, 1), 0x82U) << "at either port";
    EXPECT_EQ(pics.read(3, 1), 0U) << "once";
    EXPECT_FALSE(pics.pending()) << "the slave's request went with it";
}

} // namespace
} // namespace refhv::monitor
