// SPDX-License-Identifier: MIT
// An 8254 by the tick, and its counter 2, whose OUT port 61H shows. A count written at tick 0 is loaded at
// tick 1.
#pragma once

#include "refhv/monitor/device/clock.hpp"
#include "refhv/monitor/device/pit.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace refhv::monitor::test {

class PitFixture : public ::testing::Test {
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

} // namespace refhv::monitor::test
