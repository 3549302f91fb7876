// SPDX-License-Identifier: MIT
// The MC146818A by its data sheet, and what a PC keeps in its bytes.
#include "refhv/monitor/device/clock.hpp"
#include "refhv/monitor/device/rtc.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace refhv::monitor {
namespace {

constexpr Time ms = 1'000'000, us = 1000;

class RtcTest : public ::testing::Test {
  protected:
    u8 in(u8 index) {
        rtc.write(0, 1, index);
        return static_cast<u8>(rtc.read(1, 1));
    }
    void out(u8 index, u8 value) {
        rtc.write(0, 1, index);
        rtc.write(1, 1, value);
    }
    // Century and year, month, day, day of the week; hour, minute, second.
    std::vector<unsigned> date() { return {in(0x32), in(9), in(8), in(7), in(6)}; }
    std::vector<unsigned> time() { return {in(4), in(2), in(0)}; }

    std::vector<bool> edges;
    // 2000-02-28 23:59:59, a Monday
    Rtc rtc{951'782'399, [this](bool level) { edges.push_back(level); }};
};

using Values = std::vector<unsigned>;

TEST_F(RtcTest, after_power_on) {
    EXPECT_EQ(in(0xa), 0x26);
    EXPECT_EQ(in(0xb), 0x02);
    EXPECT_EQ(in(0xc), 0x00);
    EXPECT_EQ(in(0xd), 0x80) << "its memory and time are valid";
    EXPECT_EQ(rtc.read(0, 1), 0xffU);
    EXPECT_EQ(rtc.read(2, 1), 0xffU);
}

TEST_F(RtcTest, the_calendar_runs) {
    EXPECT_EQ(time(), Values({0x23, 0x59, 0x59}));
    EXPECT_EQ(date(), Values({0x20, 0x00, 0x02, 0x28, 2}));
    rtc.pass(second);
    EXPECT_EQ(time(), Values({0, 0, 0}));
    EXPECT_EQ(date(), Values({0x20, 0x00, 0x02, 0x29, 3})) << "2000 is a leap year";
    rtc.pass(second + 86'400 * second);
    EXPECT_EQ(date(), Values({0x20, 0x00, 0x03, 0x01, 4}));
    rtc.pass((1'798'761'599 - 951'782'399) * second);
    EXPECT_EQ(time(), Values({0x23, 0x59, 0x59}));
    EXPECT_EQ(date(), Values({0x20, 0x26, 0x12, 0x31, 5}));
}

TEST_F(RtcTest, formats) {
    out(0xb, 0x06);
    EXPECT_EQ(time(), Values({23, 59, 59}));
    EXPECT_EQ(date(), Values({0x20, 0, 2, 28, 2}));
    out(0xb, 0x04);
    EXPECT_EQ(time(), Values({0x80 | 11, 59, 59}));
    out(0xb, 0x00);
    EXPECT_EQ(time(), Values({0x80 | 0x11, 0x59, 0x59}));
    rtc.pass(second);
    EXPECT_EQ(time(), Values({0x12, 0, 0})) << "midnight is 12 AM";
    rtc.pass(second + 12 * 3600 * second);
    EXPECT_EQ(time(), Values({0x92, 0, 0})) << "noon is 12 PM";
    for (const unsigned format : {0x00U, 0x02U, 0x04U, 0x06U}) {
        for (unsigned hour = 0; hour < 24; hour++) {
            out(0xb, 0x06);
            out(4, static_cast<u8>(hour));
            out(0xb, static_cast<u8>(format));
            const u8 written = in(4);
            out(4, 0x01);
            out(4, written);
            out(0xb, 0x06);
            EXPECT_EQ(in(4), hour) << "by format " << format;
        }
    }
}

TEST_F(RtcTest, set_holds_the_time_and_gives_a_new_one) {
    rtc.pass(300 * ms);
    out(0xb, 0x82);
    rtc.pass(5 * second);
    EXPECT_EQ(time(), Values({0x23, 0x59, 0x59}));
    constexpr std::array<u8, 8> indices{0, 2, 4, 6, 7, 8, 9, 0x32},
        values{0x58, 0x59, 0x23, 1, 0x28, 0x02, 0x99, 0x20};
    for (usize i = 0; i < indices.size(); i++) {
        out(indices[i], values[i]);
        EXPECT_EQ(in(indices[i]), values[i]);
    }
    rtc.pass(7 * second);
    out(0xb, 0x02);
    EXPECT_EQ(time(), Values({0x23, 0x59, 0x58}));
    EXPECT_EQ(date(), Values({0x20, 0x99, 0x02, 0x28, 1})) << "the day of the week is whatever it was set to";
    rtc.pass(9 * second);
    EXPECT_EQ(time(), Values({0, 0, 0})) << "the divider went on";
    EXPECT_EQ(date(), Values({0x20, 0x99, 0x03, 0x01, 2}));
}

TEST_F(RtcTest, a_divider_that_was_reset_begins_with_half_a_second) {
    rtc.pass(300 * ms);
    out(0xa, 0x76);
    rtc.pass(5 * second);
    EXPECT_EQ(in(0), 0x59);
    out(0, 0x10);
    out(0xa, 0x26);
    rtc.pass(5 * second + 499 * ms);
    EXPECT_EQ(in(0), 0x10);
    rtc.pass(5 * second + 500 * ms);
    EXPECT_EQ(in(0), 0x11);
}

TEST_F(RtcTest, update_in_progress) {
    const Time ends = second;
    rtc.pass(ends - 2229 * us);
    EXPECT_EQ(in(0xa), 0x26);
    rtc.pass(ends - 2228 * us);
    EXPECT_EQ(in(0xa), 0xa6) << "244 us, and the 1984 us of an update";
    out(0xb, 0x82);
    EXPECT_EQ(in(0xa), 0x26) << "SET ends it";
    out(0xb, 0x02);
    rtc.pass(ends - 1);
    EXPECT_EQ(in(0xa), 0xa6);
    rtc.pass(ends);
    EXPECT_EQ(in(0xa), 0x26);
    out(0xa, 0xff);
    EXPECT_EQ(in(0xa), 0x7f) << "it cannot be written";
}

TEST_F(RtcTest, the_update_interrupt) {
    out(0xa, 0x20); // no periodic flag
    out(5, 0x01);   // nor an alarm at midnight
    rtc.pass(second);
    EXPECT_EQ(in(0xc), 0x10) << "its flag is set without it";
    EXPECT_EQ(in(0xc), 0) << "and cleared by the read";
    out(0xb, 0x12);
    EXPECT_EQ(rtc.due(), 2 * second);
    rtc.pass(2 * second - 1);
    EXPECT_EQ(edges, std::vector<bool>());
    rtc.pass(2 * second);
    EXPECT_EQ(edges, std::vector<bool>{true});
    EXPECT_EQ(rtc.due(), std::nullopt) << "nothing more until it is read";
    EXPECT_EQ(in(0xc), 0x90);
    EXPECT_FALSE(edges.back());
    EXPECT_EQ(rtc.due(), 3 * second);
    out(0xb, 0x92);
    EXPECT_EQ(in(0xb), 0x82) << "SET clears UIE";
    rtc.pass(10 * second);
    EXPECT_EQ(in(0xc), 0) << "and no update ends";
}

TEST_F(RtcTest, an_enable_finds_a_flag_that_is_set) {
    rtc.pass(second);
    out(0xb, 0x12);
    EXPECT_EQ(edges, std::vector<bool>{true});
    out(0xb, 0x02);
    EXPECT_EQ(edges, (std::vector<bool>{true, false}));
}

TEST_F(RtcTest, periodic_rates) {
    constexpr std::array<Time, 16> nanoseconds{
        0,         3'906'250, 7'812'500,  122'070,    244'141,    488'281,     976'562,     1'953'125,
        3'906'250, 7'812'500, 15'625'000, 31'250'000, 62'500'000, 125'000'000, 250'000'000, 500'000'000};
    out(0xb, 0x42);
    Time now = 0;
    for (u8 rate = 0; rate < 16; rate++) {
        out(0xa, 0x20 | rate);
        static_cast<void>(in(0xc));
        const auto first = rtc.due();
        ASSERT_EQ(first.has_value(), rate != 0);
        if (first) {
            rtc.pass(*first);
            EXPECT_EQ(in(0xc) & 0xc0, 0xc0);
            EXPECT_NEAR(static_cast<double>(*rtc.due() - *first), static_cast<double>(nanoseconds[rate]),
                        1.1);
            rtc.pass(*rtc.due() - 1);
            EXPECT_EQ(in(0xc) & 0xc0, 0);
            now = *rtc.due();
            rtc.pass(now);
            EXPECT_EQ(in(0xc) & 0xc0, 0xc0);
        }
    }
    out(0xa, 0x70);
    EXPECT_EQ(rtc.due(), std::nullopt) << "the divider is reset";
    out(0xb, 0x02);
    out(0xa, 0x26);
    rtc.pass(now + second);
    EXPECT_EQ(in(0xc) & 0xc0, 0x40) << "the flag alone";
}

TEST_F(RtcTest, due_is_the_first_of_all) {
    rtc.pass(300 * ms);
    out(0xa, 0x70);
    out(0xa, 0x2f); // begins half a second ago: periods of 500 ms end at 300 ms and each 500 ms
    out(0xb, 0x72);
    out(1, 0xff);
    out(3, 0xff);
    out(5, 0xff);
    EXPECT_EQ(rtc.due(), 800 * ms) << "all three";
    rtc.pass(800 * ms);
    EXPECT_EQ(in(0xc), 0xf0);
    EXPECT_EQ(rtc.due(), 1300 * ms) << "the period alone";
    out(0xa, 0x20);
    EXPECT_EQ(rtc.due(), 1800 * ms) << "update and alarm";
    out(0xb, 0x22);
    EXPECT_EQ(rtc.due(), 1800 * ms);
    out(3, 0x77);
    EXPECT_EQ(rtc.due(), std::nullopt);
}

TEST_F(RtcTest, alarms) {
    // Against 23:59:59 at time 0: the bytes of hour, minute and second, and seconds until then.
    const std::vector<std::pair<std::array<u8, 3>, u64>> cases{
        {{0xff, 0xc0, 0xd5}, 1},      {{0xff, 0xff, 0x30}, 31},  {{0xff, 0x01, 0x00}, 61},
        {{0x01, 0x02, 0x03}, 3724},   {{0x00, 0xff, 0xff}, 1},   {{0x23, 0x59, 0x59}, 86'400},
        {{0x05, 0xff, 0xff}, 18'001}, {{0xff, 0x10, 0xff}, 601}, {{0x23, 0xff, 0x01}, 82'802},
    };
    for (const auto& [bytes, seconds] : cases) {
        Rtc one(951'782'399, {});
        const auto put = [&](u8 index, u8 value) {
            one.write(0, 1, index);
            one.write(1, 1, value);
        };
        put(5, bytes[0]);
        put(3, bytes[1]);
        put(1, bytes[2]);
        put(0xb, 0x22);
        EXPECT_EQ(one.due(), seconds * second) << seconds;
        one.pass(seconds * second - 1);
        EXPECT_EQ(one.due(), seconds * second) << seconds;
        one.pass(seconds * second);
        EXPECT_EQ(one.due(), std::nullopt);
        one.write(0, 1, 0xc);
        EXPECT_EQ(one.read(1, 1) & 0xb0, 0xb0U) << seconds;
    }
    out(1, 0x77);
    out(0xb, 0x22);
    EXPECT_EQ(rtc.due(), std::nullopt) << "no such second";
    out(0xb, 0x20);
    out(1, 0);
    out(3, 0);
    out(5, 0x81);
    EXPECT_EQ(rtc.due(), (13 * 3600 + 1) * second) << "1 PM";
}

TEST_F(RtcTest, bytes_for_everyone) {
    for (unsigned i = 0xe; i < 128; i++) {
        if (i != 0x32) {
            out(static_cast<u8>(i), static_cast<u8>(i ^ 0x5a));
        }
    }
    for (unsigned i = 0xe; i < 128; i++) {
        if (i != 0x32) {
            EXPECT_EQ(in(static_cast<u8>(i | 0x80)), i ^ 0x5a) << "bit 7 of the index masks NMIs";
        }
    }
    rtc.write(0, 2, 0x660f);
    EXPECT_EQ(in(0xf), 0x66) << "both ports at once";
    out(0xd, 0);
    out(0xc, 0xff);
    EXPECT_EQ(in(0xd), 0x80);
    EXPECT_EQ(in(0xc), 0);
}

TEST_F(RtcTest, sizes_of_memory) {
    const auto word = [&](u8 at) { return in(at) | in(at + 1) << 8; };
    rtc.set_memory(0x800'0000, 0);
    EXPECT_EQ(word(0x15), 640);
    EXPECT_EQ(word(0x17), 0xffff);
    EXPECT_EQ(word(0x30), 0xffff);
    EXPECT_EQ(word(0x34), (128 - 16) * 16);
    EXPECT_EQ(word(0x5b) | in(0x5d) << 16, 0);
    rtc.set_memory(0x200'0000, 0x1'4000'0000);
    EXPECT_EQ(word(0x17), 31 * 1024);
    EXPECT_EQ(word(0x30), 31 * 1024);
    EXPECT_EQ(word(0x34), 256);
    EXPECT_EQ(word(0x5b) | in(0x5d) << 16, 0x1'4000);
    rtc.set_memory(0x8'0000, 0);
    EXPECT_EQ(word(0x15), 512);
    EXPECT_EQ(word(0x17), 0);
    EXPECT_EQ(word(0x34), 0);
}

} // namespace
} // namespace refhv::monitor
