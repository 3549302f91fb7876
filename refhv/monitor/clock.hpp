// SPDX-License-Identifier: MIT
// The machine's clock: the target's TSC in nanoseconds, without the time that the machine was paused.
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <algorithm>

namespace refhv::monitor {

class Clock {
  public:
    // Where the rate is not known a tick counts as a nanosecond.
    explicit Clock(u64 hz) : hz_(hz != 0 ? hz : 1'000'000'000) {}

    // The target's TSC is `tsc` now.
    void come_to(u64 tsc) {
        if (!started_) {
            began_ = tsc;
            started_ = true;
        }
        const Time now = to_time(tsc - began_) + offset_;
        now_ = now > now_ ? now : now_;
    }
    // What passes until the next come_to() does not count.
    void pause() {
        offset_ = now_;
        started_ = false;
    }
    void set(Time now) {
        now_ = now;
        pause();
    }

    [[nodiscard]] Time now() const { return now_; }
    // When the target's TSC has that value; now, if it has gone by.
    [[nodiscard]] Time time_of(u64 tsc) const {
        return started_ && tsc > began_ ? std::max(now_, to_time(tsc - began_) + offset_) : now_;
    }
    [[nodiscard]] Time to_time(u64 ticks) const {
        return static_cast<Time>(static_cast<unsigned __int128>(ticks) * 1'000'000'000 / hz_);
    }
    // Rounded up, so that a wait for a moment ends behind it.
    [[nodiscard]] u64 to_ticks(Time time) const {
        return static_cast<u64>((static_cast<unsigned __int128>(time) * hz_ + 999'999'999) / 1'000'000'000);
    }

  private:
    u64 hz_;
    u64 began_ = 0;
    bool started_ = false;
    Time offset_ = 0, now_ = 0;
};

} // namespace refhv::monitor
