// SPDX-License-Identifier: MIT
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86 {

// Of linear addresses; 57 under CR4.LA57.
inline constexpr unsigned linear_bits_level4 = 48, linear_bits_level5 = 57;

// Are the bits above the highest that is translated equal to it (SDM 1 3.3.7.1; APM 2 5.3.1)?
[[nodiscard]] constexpr bool is_canonical(u64 address, unsigned linear_bits) {
    const unsigned above = 64 - linear_bits;
    return static_cast<u64>(static_cast<i64>(address << above) >> above) == address;
}

} // namespace refhv::x86
