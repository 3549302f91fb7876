// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/pit_counter.hpp"

#include <algorithm>

namespace refhv::monitor {
namespace {

constexpr u8 waiting = 0, counting = 1, stopped = 2; // phases

constexpr u32 from_bcd(u16 digits) {
    u32 value = 0;
    for (int shift = 12; shift >= 0; shift -= 4) {
        value = value * 10 + (digits >> shift & 0xf);
    }
    return value % 10'000;
}

constexpr u16 to_bcd(u32 value) {
    u16 digits = 0;
    for (int shift = 0; shift < 16; shift += 4, value /= 10) {
        digits |= static_cast<u16>(value % 10 << shift);
    }
    return digits;
}

// How long OUT is high in a period of mode 3.
constexpr u32 high_half(u32 count) {
    return (count + 1) / 2;
}

} // namespace

void PitCounter::control(u8 word) {
    const u8 mode = word >> 1 & 7;
    mode_ = mode > 5 ? mode & 3 : mode;
    access_ = word >> 4 & 3;
    bcd_ = word & 1;
    phase_ = waiting;
    count_ = 0;
    initial_ = std::min(initial_, modulus());
    reload_at_ = 0;
    fresh_ = retriggered_ = written_low_ = read_low_ = count_latched_ = status_latched_ = 0;
}

void PitCounter::write(u64 now, u8 value) {
    if (access_ != 3) {
        take(now, static_cast<u16>(access_ == 1 ? value : value << 8));
    } else if (written_low_ == 0) {
        low_ = value;
        written_low_ = 1;
        if (mode_ == 0) {
            phase_ = waiting; // the first byte stops the counting
        }
    } else {
        written_low_ = 0;
        take(now, static_cast<u16>(value << 8 | low_));
    }
}

// A whole count was written.
void PitCounter::take(u64 now, u16 value) {
    count_ = bcd_ != 0 ? from_bcd(value) : value;
    count_ = count_ != 0 ? count_ : modulus();
    if (triggered()) {
        fresh_ = 1;
    } else if (!periodic() || phase_ == waiting) {
        load(now + 1);
        if (gate_ == 0) {
            phase_ = stopped;
            frozen_ = 0;
        }
    } else if (phase_ == counting) {
        const u64 gone = elapsed(now), period = gone - gone % initial_;
        const bool falls = mode_ == 3 && gone % initial_ < high_half(initial_);
        reload_at_ = start_ + period + (falls ? high_half(initial_) : initial_);
    }
}

void PitCounter::load(u64 start) {
    start_ = start;
    initial_ = count_;
    phase_ = counting;
    reload_at_ = 0;
    fresh_ = 0;
}

void PitCounter::advance(u64 now) {
    if (reload_at_ == 0 || now < reload_at_) {
        return;
    }
    const bool fell = mode_ == 3 && (reload_at_ - start_) % initial_ != 0;
    load(fell ? reload_at_ - std::min<u64>(high_half(count_), reload_at_) : reload_at_);
}

void PitCounter::set_gate(u64 now, bool gate) {
    if (gate == (gate_ != 0)) {
        return;
    }
    gate_ = gate ? 1 : 0;
    if (triggered()) {
        if (gate && count_ != 0) {
            retriggered_ = out(now) ? 0 : 1;
            load(now + 1);
        }
    } else if (!gate && phase_ == counting) {
        frozen_ = elapsed(now);
        phase_ = stopped;
    } else if (gate && phase_ == stopped) {
        if (periodic()) {
            load(now + 1);
        } else {
            start_ = now - std::min(frozen_, now);
            phase_ = counting;
        }
    }
}

u64 PitCounter::elapsed(u64 now) const {
    if (phase_ == stopped) {
        return frozen_;
    }
    return now > start_ ? now - start_ : 0;
}

bool PitCounter::out(u64 now) const {
    if (phase_ == waiting) {
        return mode_ != 0;
    }
    const bool loaded = phase_ == stopped || now >= start_;
    const u64 gone = elapsed(now);
    switch (mode_) {
    case 0:
        return gone >= initial_;
    case 1:
        return loaded ? gone >= initial_ : retriggered_ == 0;
    case 2:
        return phase_ == stopped || initial_ == 1 || gone % initial_ != initial_ - 1;
    case 3:
        return phase_ == stopped || gone % initial_ < high_half(initial_);
    default: // a strobe of one clock
        return gone != initial_;
    }
}

std::optional<u64> PitCounter::next_rise(u64 now) const {
    if (phase_ != counting) {
        return {};
    }
    u64 at = start_ + initial_;
    if (periodic()) {
        if (initial_ == 1) {
            return {}; // not a count of these modes: OUT stays high
        }
        if (mode_ == 3 && reload_at_ > now && (reload_at_ - start_) % initial_ != 0) {
            return count_ > 1 ? std::optional(reload_at_ + count_ / 2)
                              : std::nullopt; // the low half is a new one
        }
        return at + (now >= at ? (now - start_) / initial_ * initial_ : 0);
    }
    at += mode_ >= 4 ? 1 : 0;
    return at > now ? std::optional(at) : std::nullopt;
}

u16 PitCounter::counting_element(u64 now) const {
    const u64 gone = elapsed(now);
    u64 value = 0;
    if (mode_ == 2) {
        value = initial_ - gone % initial_;
    } else if (mode_ == 3) {
        const u64 at = gone % initial_, high = high_half(initial_);
        value = (initial_ & ~1U) - 2 * (at < high ? at : at - high);
    } else {
        value = modulus() + initial_ - gone % modulus();
    }
    const auto count = static_cast<u32>(value % modulus());
    return bcd_ != 0 ? to_bcd(count) : static_cast<u16>(count);
}

bool PitCounter::is_null(u64 now) const {
    return phase_ == waiting || reload_at_ != 0 || fresh_ != 0 || (phase_ == counting && now < start_);
}

void PitCounter::latch_count(u64 now) {
    if (count_latched_ == 0) {
        latched_ = counting_element(now);
        count_latched_ = 1;
    }
}

void PitCounter::latch_status(u64 now) {
    if (status_latched_ == 0) {
        status_ = static_cast<u8>((out(now) ? 0x80 : 0) | (is_null(now) ? 0x40 : 0) | access_ << 4 |
                                  mode_ << 1 | bcd_);
        status_latched_ = 1;
    }
}

u8 PitCounter::read(u64 now) {
    if (status_latched_ != 0) {
        status_latched_ = 0;
        return status_;
    }
    const u16 value = count_latched_ != 0 ? latched_ : counting_element(now);
    bool high = access_ == 2;
    if (access_ == 3) {
        high = read_low_ != 0;
        read_low_ ^= 1;
    }
    if (high || access_ != 3) {
        count_latched_ = 0;
    }
    return static_cast<u8>(high ? value >> 8 : value);
}

void PitCounter::sanitize(u64 now) {
    start_ = std::min(start_, now + 1);
    frozen_ = std::min(frozen_, now);
    count_ = std::min(count_, modulus());
    initial_ = std::clamp<u32>(initial_, 1, modulus());
    mode_ = mode_ > 5 ? 0 : mode_;
    access_ = (access_ & 3) != 0 ? access_ & 3 : 3;
    bcd_ &= 1;
    gate_ &= 1;
    read_low_ &= 1;
    phase_ %= 3;
    count_ = phase_ == waiting ? count_ : std::max<u32>(count_, 1);
    const u64 end = start_ + (now > start_ ? (now - start_) / initial_ * initial_ : 0) + initial_;
    reload_at_ = reload_at_ != 0 && periodic() && count_ != 0 ? std::clamp(reload_at_, now + 1, end) : 0;
}

} // namespace refhv::monitor
