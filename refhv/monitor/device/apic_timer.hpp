// SPDX-License-Identifier: MIT
// The timer of a local APIC (SDM 3A 11.5.4), whose bus clock runs at 1 GHz: a count of it is a nanosecond.
#pragma once

#include "refhv/monitor/device/device.hpp"

namespace refhv::monitor {

class ApicTimer {
  public:
    enum Mode : u8 {
        one_shot = 0,
        periodic = 1,
        tsc_deadline = 2
    };

    void set_mode(u8 mode);
    void set_initial(Time now, u32 count);
    void set_divide(Time now, u8 value);
    // The deadline as software wrote it and as the machine's time; 0 disarms.
    void set_deadline(u64 tsc, Time at);

    [[nodiscard]] u32 initial() const { return initial_; }
    [[nodiscard]] u32 current(Time now) const;
    [[nodiscard]] u8 divide() const { return divide_; }
    [[nodiscard]] u64 deadline() const { return deadline_; }
    [[nodiscard]] u8 mode() const { return mode_; }
    [[nodiscard]] std::optional<Time> due() const;
    // True if it came to its end, however often.
    [[nodiscard]] bool pass(Time now);
    void sanitize(Time now);

  private:
    [[nodiscard]] u64 divisor() const;
    [[nodiscard]] Time duration() const { return initial_ * divisor(); }
    void disarm();

    Time start_ = 0, due_ = 0; // `due_` means something while armed
    u64 deadline_ = 0;
    u32 initial_ = 0;
    u8 divide_ = 0, mode_ = one_shot, armed_ = 0;
    [[maybe_unused]] u8 unused_ = 0; // no padding
};

} // namespace refhv::monitor
