// SPDX-License-Identifier: MIT
// The 16550A by its data sheet (PC16550D), and what Linux' 8250 driver asks it for.
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/uart.hpp"

#include <string>

namespace refhv::monitor {
namespace {

class UartTest : public ::testing::Test {
  protected:
    u8 in(u64 at) { return static_cast<u8>(uart.read(at, 1)); }
    void out(u64 at, u8 value) { uart.write(at, 1, value); }
    unsigned cause() { return in(2) & 0xf; }

    std::string sent;
    std::vector<bool> edges;
    Uart uart{[this](u8 c) { sent += static_cast<char>(c); }, [this](bool level) { edges.push_back(level); }};
};

TEST_F(UartTest, registers_after_reset) {
    EXPECT_EQ(in(1), 0);
    EXPECT_EQ(in(2), 1) << "no interrupt, no FIFOs";
    EXPECT_EQ(in(3), 0);
    EXPECT_EQ(in(4), 0);
    EXPECT_EQ(in(5), 0x60);
    EXPECT_EQ(in(6), 0xb0);
    EXPECT_EQ(in(7), 0);
    EXPECT_EQ(in(8), 0xff) << "no such register";
}

TEST_F(UartTest, registers_keep_the_bits_that_they_have) {
    for (const u8 value : {0x00, 0x55, 0xaa, 0xff}) {
        out(1, value);
        EXPECT_EQ(in(1), value & 0xf);
        out(7, value);
        EXPECT_EQ(in(7), value);
        out(4, value & 0xef);
        EXPECT_EQ(in(4), value & 0xf);
        out(3, value);
        EXPECT_EQ(in(3), value);
        out(3, 0);
    }
}

TEST_F(UartTest, the_divisor_hides_data_and_interrupt_enable) {
    out(1, 0xf);
    out(3, 0x83);
    out(0, 0x34);
    out(1, 0x12);
    EXPECT_EQ(in(0), 0x34);
    EXPECT_EQ(in(1), 0x12);
    EXPECT_EQ(uart.read(0, 2), 0x1234U) << "a wide access is two of a byte";
    out(3, 3);
    EXPECT_EQ(in(1), 0xf);
    EXPECT_EQ(sent, "");
}

TEST_F(UartTest, what_is_written_is_sent) {
    for (const char c : {'r', 'e', 'f'}) {
        out(0, static_cast<u8>(c));
        EXPECT_EQ(in(5) & 0x60, 0x60);
    }
    EXPECT_EQ(sent, "ref");
}

TEST_F(UartTest, the_interrupt_of_an_empty_thr) {
    EXPECT_EQ(edges, std::vector<bool>());
    out(1, 2);
    EXPECT_EQ(edges, std::vector<bool>{true}) << "enabling it, while the THR is empty, raises it";
    EXPECT_EQ(cause(), 2U);
    EXPECT_EQ(edges.size(), 2U) << "reading the IIR as its cause ends it";
    EXPECT_EQ(cause(), 1U);
    out(0, 'a');
    EXPECT_EQ(edges.size(), 3U);
    out(0, 'b');
    EXPECT_EQ(edges, (std::vector<bool>{true, false, true, false, true}))
        << "an edge for each time it becomes empty";
    EXPECT_EQ(cause(), 2U);
    out(1, 0);
    out(1, 2);
    EXPECT_EQ(cause(), 2U) << "anew each time it is enabled: Linux' test for a broken THRE";
    out(1, 2);
    EXPECT_EQ(cause(), 1U) << "it was enabled before";
}

TEST_F(UartTest, causes_by_priority) {
    out(1, 0xf);
    out(4, 1);
    uart.receive('x', Uart::framing_error);
    out(4, 0x10); // loopback takes CTS, DSR and DCD away: three changes
    EXPECT_EQ(cause(), 6U);
    EXPECT_EQ(in(5), 0x60 | 8 | 1);
    EXPECT_EQ(cause(), 4U);
    EXPECT_EQ(in(0), 'x');
    EXPECT_EQ(cause(), 2U);
    EXPECT_EQ(cause(), 0U);
    EXPECT_EQ(in(6), 0x0b);
    EXPECT_EQ(cause(), 1U);
    EXPECT_FALSE(edges.back());
}

TEST_F(UartTest, each_cause_has_its_enable) {
    out(2, 1);
    uart.receive('x', Uart::framing_error);
    out(4, 0x10);
    EXPECT_EQ(cause(), 1U);
    EXPECT_EQ(edges, std::vector<bool>());
    constexpr std::array<unsigned, 4> causes{4, 2, 6, 0};
    for (u8 i = 0; i < 4; i++) {
        out(1, static_cast<u8>(1 << i));
        EXPECT_EQ(cause(), causes[i]) << "IER bit " << int{i};
    }
}

TEST_F(UartTest, an_interrupt_of_another_cause_leaves_the_thr_s) {
    out(1, 3);
    uart.receive('x');
    EXPECT_EQ(cause(), 4U);
    EXPECT_EQ(cause(), 4U);
    static_cast<void>(in(0));
    EXPECT_EQ(cause(), 2U);
}

TEST_F(UartTest, the_fifo_holds_sixteen_then_overruns) {
    out(2, 1);
    EXPECT_EQ(in(2), 0xc1);
    EXPECT_EQ(uart.room(), 16U);
    for (u8 i = 0; i < 17; i++) {
        uart.receive(i);
    }
    EXPECT_EQ(uart.room(), 0U);
    EXPECT_EQ(in(5), 0x63);
    EXPECT_EQ(in(5), 0x61) << "the overrun is gone once read";
    for (u8 i = 0; i < 16; i++) {
        EXPECT_EQ(in(0), i);
    }
    EXPECT_EQ(in(5), 0x60);
}

TEST_F(UartTest, without_fifos_the_newer_character_overwrites) {
    EXPECT_EQ(uart.room(), 1U);
    uart.receive('a');
    uart.receive('b', Uart::parity_error);
    EXPECT_EQ(in(5), 0x67);
    EXPECT_EQ(in(0), 'b');
    EXPECT_EQ(in(5), 0x60);
}

TEST_F(UartTest, trigger_levels_and_the_time_out_below) {
    constexpr std::array<unsigned, 4> levels{1, 4, 8, 14};
    out(1, 1);
    for (u8 code = 0; code < 4; code++) {
        out(2, static_cast<u8>(code << 6 | 3));
        for (unsigned n = 1; n <= 16; n++) {
            uart.receive('x');
            EXPECT_EQ(in(2), n < levels[code] ? 0xcc : 0xc4)
                << n << " characters, trigger level " << levels[code];
        }
        static_cast<void>(in(0));
        EXPECT_EQ(in(2), 0xc4) << "15 are there still";
    }
}

TEST_F(UartTest, fifo_control) {
    out(2, 0xc0);
    EXPECT_EQ(in(2), 1) << "without bit 0 the others are not programmed";
    uart.receive('a');
    out(2, 1);
    EXPECT_EQ(in(5) & 1, 0) << "the FIFOs are cleared when they come";
    uart.receive('a');
    out(2, 1);
    EXPECT_EQ(in(5) & 1, 1);
    out(2, 3);
    EXPECT_EQ(in(5) & 1, 0) << "reset of the receiver's";
    uart.receive('a');
    out(2, 0);
    EXPECT_EQ(in(5) & 1, 0) << "and when they go";
}

TEST_F(UartTest, errors_show_when_their_character_is_on_top) {
    out(2, 1);
    uart.receive('a');
    uart.receive('b', Uart::parity_error);
    uart.receive(0, Uart::break_interrupt);
    EXPECT_EQ(in(5), 0x80 | 0x61);
    static_cast<void>(in(0));
    EXPECT_EQ(in(5), 0x80 | 0x61 | 4);
    EXPECT_EQ(in(5), 0x80 | 0x61) << "the break waits behind it";
    static_cast<void>(in(0));
    EXPECT_EQ(in(5), 0x80 | 0x61 | 0x10);
    EXPECT_EQ(in(5), 0x61);
}

TEST_F(UartTest, loopback) {
    out(1, 1);
    out(4, 0x1a);
    EXPECT_EQ(in(6) & 0xf0, 0x90) << "RTS is CTS, OUT2 is DCD";
    out(4, 0x15);
    EXPECT_EQ(in(6) & 0xf0, 0x60) << "DTR is DSR, OUT1 is RI";
    out(4, 0x10);
    EXPECT_EQ(in(6), 0x06) << "DSR changed, RI fell";
    out(4, 0x14);
    EXPECT_EQ(in(6), 0x40) << "RI's rise is no change";
    out(0, 'l');
    EXPECT_EQ(sent, "");
    EXPECT_EQ(cause(), 4U) << "interrupts go on";
    EXPECT_EQ(in(0), 'l');
    out(3, 0x43);
    EXPECT_EQ(in(5), 0x60 | 0x10 | 1) << "its own break";
    static_cast<void>(in(0));
    out(3, 0x40);
    EXPECT_EQ(in(5), 0x60) << "which goes on and is no other";
}

// What drivers/tty/serial/8250 reads before it says 16550A.
TEST_F(UartTest, linux_probes_it_as_a_16550a) {
    out(1, 0);
    EXPECT_EQ(in(1), 0);
    out(1, 0xf);
    EXPECT_EQ(in(1), 0xf);
    out(1, 0);
    out(4, 0x1a);
    EXPECT_EQ(in(6) & 0xf0, 0x90);
    out(4, 0);
    out(3, 0xbf);
    out(2, 0);
    out(3, 0);
    out(2, 1);
    EXPECT_EQ(in(2) >> 6, 3);
    out(3, 0x80);
    EXPECT_NE(in(2), 0) << "zero would be the EFR of a 16650";
    out(3, 0xbf);
    EXPECT_NE(in(2), 0) << "zero would be the EFR of a 16850";
    out(3, 0xe0);
    EXPECT_EQ(in(2) & 0x10, 0) << "a copy of MCR's loop bit would be a NS16C552";
    out(3, 0);
    out(2, 0x21);
    EXPECT_EQ(in(2) >> 5, 6) << "bit 5 would be a 16750's 64 bytes";
    out(1, 0x40);
    EXPECT_EQ(in(1), 0) << "bit 6 would be an XScale's";
}

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<Uart>([&](u8 c) { log.push_back(c); },
                                                  [&](bool level) { log.push_back(level ? 0x101 : 0x100); });
                },
            .extent = 8,
            .act =
                [](Device& d, u64 random) {
                    static_cast<Uart&>(d).receive(static_cast<u8>(random),
                                                  random & 256 ? static_cast<u8>(random >> 9) : 0);
                }};
}

TEST(UartRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(UartRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(UartRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
