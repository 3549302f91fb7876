// SPDX-License-Identifier: MIT
// The MC146818A clock (Motorola data sheet, ADI1026) on ports 70H and 71H of a PC, with 128 bytes, a crystal
// of 32,768 Hz and the century at 32H. An update takes 1984 us; UIP is set 244 us before. The machine passes
// the time before each access.
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <array>

namespace refhv::monitor {

class Rtc final : public Device {
  public:
    // The calendar at the machine's time 0, in seconds since 1970; the line is IRQ.
    Rtc(i64 epoch, Line interrupt);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void pass(Time now) override;
    [[nodiscard]] std::optional<Time> due() const override;
    [[nodiscard]] std::span<std::byte> state() override;
    void restored() override;

    // What firmware says of the memory: bytes 15H-18H, 30H-31H, 34H-35H and 5BH-5DH. Sizes in bytes, the
    // first of them counted from address 0.
    void set_memory(u64 below_4g, u64 above_4g);

  private:
    struct State {
        i64 calendar = 0; // seconds since 1970 at `origin`
        i64 origin = 0;   // nanoseconds of the machine's time at which the divider chain began a second
        Time now = 0;
        std::array<u8, 128> bytes{}; // those of the time hold it only while it does not run
        u8 index = 0;
        u8 weekday_offset = 0; // the day of the week that was set against the one of the date
        u8 interrupt = 0;      // the level that was last given to the line
        u8 unused[5] = {};
    };

    [[nodiscard]] u8& reg(u8 index) { return state_.bytes[index]; }
    [[nodiscard]] u8 reg(u8 index) const { return state_.bytes[index]; }
    [[nodiscard]] bool divider_runs() const;
    [[nodiscard]] bool runs() const;
    [[nodiscard]] bool update_in_progress() const;
    [[nodiscard]] i64 seconds_gone(Time now) const;
    [[nodiscard]] i64 calendar(Time now) const { return state_.calendar + seconds_gone(now); }
    [[nodiscard]] u64 periods(Time now) const;
    [[nodiscard]] u64 period() const;
    [[nodiscard]] std::optional<i64> next_alarm(i64 after) const;
    [[nodiscard]] u8 encoded(unsigned value) const;
    [[nodiscard]] unsigned decoded(u8 value) const;
    [[nodiscard]] u8 encoded_hour(unsigned hour) const;
    [[nodiscard]] unsigned decoded_hour(u8 value) const;
    void hold();
    void release();
    void write_data(u8 value);
    void set_divider(u8 value);
    void set_control(u8 value);
    void update();

    State state_;
    Line line_;
};

} // namespace refhv::monitor
