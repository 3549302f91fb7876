// SPDX-License-Identifier: MIT
// From the machine's time to the ticks of a device's clock, and back.
#pragma once

#include "refhv/monitor/device/device.hpp"

namespace refhv::monitor {

inline constexpr u64 second = 1'000'000'000;
// Devices hold times up to here, 146 years: so sums of two do not wrap.
inline constexpr Time latest = Time{1} << 62;

// Ticks that have begun by then.
[[nodiscard]] constexpr u64 ticks_at(Time time, u64 hertz) {
    return static_cast<u64>(static_cast<unsigned __int128>(time) * hertz / second);
}

// When that tick begins: no earlier, and less than a nanosecond later.
[[nodiscard]] constexpr Time time_of(u64 tick, u64 hertz) {
    return static_cast<Time>((static_cast<unsigned __int128>(tick) * second + hertz - 1) / hertz);
}

} // namespace refhv::monitor
