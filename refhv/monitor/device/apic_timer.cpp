// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/apic_timer.hpp"

#include "refhv/monitor/device/clock.hpp"

#include <algorithm>

namespace refhv::monitor {

void ApicTimer::disarm() {
    armed_ = 0;
    start_ = due_ = 0;
    deadline_ = 0;
}

// Into and out of TSC-deadline mode the timer is disarmed.
void ApicTimer::set_mode(u8 mode) {
    if (mode != mode_ && (mode == tsc_deadline || mode_ == tsc_deadline)) {
        disarm();
        initial_ = 0;
    }
    mode_ = mode;
}

void ApicTimer::set_initial(Time now, u32 count) {
    if (mode_ == tsc_deadline) {
        return;
    }
    disarm();
    initial_ = count;
    if (count != 0) {
        armed_ = 1;
        start_ = now;
        due_ = now + duration();
    }
}

// What is left to count is counted at the new rate.
void ApicTimer::set_divide(Time now, u8 value) {
    const u64 gone = initial_ - current(now);
    divide_ = value & 0xb;
    if (armed_ != 0 && mode_ != tsc_deadline) {
        start_ = now - std::min(gone * divisor(), now);
        due_ = now + (initial_ - gone) * divisor();
    }
}

void ApicTimer::set_deadline(u64 tsc, Time at) {
    if (mode_ != tsc_deadline) {
        return;
    }
    disarm();
    if (tsc != 0) {
        armed_ = 1;
        deadline_ = tsc;
        due_ = std::min(at, latest);
    }
}

u64 ApicTimer::divisor() const {
    const unsigned code = (divide_ & 3) | (divide_ >> 1 & 4);
    return code == 7 ? 1 : u64{2} << code;
}

u32 ApicTimer::current(Time now) const {
    if (armed_ == 0 || mode_ == tsc_deadline) {
        return 0;
    }
    const u64 left = due_ > now ? due_ - now : 0;
    return static_cast<u32>(std::min<u64>((left + divisor() - 1) / divisor(), initial_));
}

std::optional<Time> ApicTimer::due() const {
    return armed_ != 0 ? std::optional(due_) : std::nullopt;
}

bool ApicTimer::pass(Time now) {
    if (armed_ == 0 || due_ > now) {
        return false;
    }
    if (mode_ == periodic) {
        start_ = due_ + (now - due_) / duration() * duration();
        due_ = start_ + duration();
    } else {
        disarm();
    }
    return true;
}

void ApicTimer::sanitize(Time now) {
    mode_ = mode_ > tsc_deadline ? u8{one_shot} : mode_;
    divide_ &= 0xb;
    armed_ = armed_ != 0 && (mode_ == tsc_deadline || initial_ != 0) ? 1 : 0;
    start_ = std::min(start_, now);
    due_ = std::min(due_, mode_ == tsc_deadline ? latest : now + duration());
}

} // namespace refhv::monitor
