// SPDX-License-Identifier: MIT
// Sets of what a client wants to exit, and bitmaps of what does.
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv {

[[nodiscard]] constexpr u64 bit(abi::Intercept i) {
    return u64{1} << static_cast<u8>(i);
}
[[nodiscard]] constexpr bool asks(u64 intercepts, abi::Intercept i) {
    return (intercepts & bit(i)) != 0;
}

// One bit of an I/O or MSR bitmap, bit 0 of byte 0 first.
inline void set_bit(u8* map, u32 number, bool on) {
    const u8 one = static_cast<u8>(1u << (number % 8));
    map[number / 8] = on ? map[number / 8] | one : map[number / 8] & static_cast<u8>(~one);
}
inline void set_bits(u8* map, u32 first, u32 count, bool on) {
    for (u32 i = 0; i < count; ++i) {
        set_bit(map, first + i, on);
    }
}

} // namespace refhv
