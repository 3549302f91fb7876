// SPDX-License-Identifier: MIT
// One counter of an 8254 (Intel 8254 data sheet, 231164), as a function of the clock's ticks: it is not
// clocked, what it holds at a tick follows from when it was loaded. Every `now` is that of the last call, or
// later.
#pragma once

#include "refhv/contract/types.hpp"

#include <optional>

namespace refhv::monitor {

class PitCounter {
  public:
    explicit PitCounter(bool gate) : gate_(gate ? 1 : 0) {}

    // Bits 5:0 of a control word that is no latch command.
    void control(u8 word);
    void write(u64 now, u8 value);
    [[nodiscard]] u8 read(u64 now);
    void latch_count(u64 now);
    void latch_status(u64 now);
    void set_gate(u64 now, bool gate);

    [[nodiscard]] bool out(u64 now) const;
    // The first tick behind `now` at which OUT rises, if gate and registers stay as they are.
    [[nodiscard]] std::optional<u64> next_rise(u64 now) const;
    // A count that was to wait for the end of a period takes effect.
    void advance(u64 now);
    // Whatever the registers are, what the functions above rely on holds afterwards.
    void sanitize(u64 now);

  private:
    void take(u64 now, u16 value);
    void load(u64 start);
    [[nodiscard]] u64 elapsed(u64 now) const;
    [[nodiscard]] u16 counting_element(u64 now) const;
    [[nodiscard]] u32 modulus() const { return bcd_ != 0 ? 10'000 : 0x1'0000; }
    [[nodiscard]] bool periodic() const { return mode_ == 2 || mode_ == 3; }
    [[nodiscard]] bool triggered() const { return mode_ == 1 || mode_ == 5; }
    [[nodiscard]] bool is_null(u64 now) const;

    u64 start_ = 0;     // the tick at which the counting element was loaded
    u64 frozen_ = 0;    // how far it had come when the gate closed
    u64 reload_at_ = 0; // the end of the period or half period that `count_` waits for; 0 if it does not
    u32 count_ = 0;     // the last count that was written, 1 to the modulus; 0 before the first
    u32 initial_ = 1;   // the one that is being counted down
    u16 latched_ = 0;
    u8 status_ = 0;
    u8 mode_ = 0, access_ = 3, bcd_ = 0;
    u8 gate_;
    u8 phase_ = 0;       // waiting for a count or a trigger, counting, or stopped by the gate
    u8 fresh_ = 0;       // a count waits for a trigger
    u8 retriggered_ = 0; // in mode 1, while OUT was low
    u8 written_low_ = 0, low_ = 0, read_low_ = 0;
    u8 count_latched_ = 0, status_latched_ = 0;
    [[maybe_unused]] u8 unused_ = 0; // no padding
};

} // namespace refhv::monitor
