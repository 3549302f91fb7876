// SPDX-License-Identifier: MIT
// Values at the boundaries, of which the tables are made.
#pragma once

#include "refhv/contract/types.hpp"

#include <random>
#include <vector>

namespace refhv::front {

// Fixed, so that a row has the same number in every run.
using Random = std::mt19937_64;
inline constexpr u64 table_seed = 0x5eed'0e17;

// Where a CPU has 5-level paging, which of the two widths counts is not what these tables are about.
[[nodiscard]] inline bool is_alike_in_48_bits(u64 address, unsigned bits) {
    const auto extends = [&](unsigned width) {
        const i64 high = static_cast<i64>(address) >> (width - 1);
        return high == 0 || high == -1;
    };
    return extends(48) == extends(bits);
}

// Linear addresses around the ends of the canonical halves, for that width.
[[nodiscard]] inline std::vector<u64> linear_addresses(unsigned bits) {
    const u64 low_end = u64{1} << (bits - 1), high_begin = ~u64{0} << (bits - 1);
    std::vector<u64> all{0,
                         1,
                         low_end - 1,
                         low_end,
                         low_end | 1,
                         high_begin - 1,
                         high_begin,
                         ~u64{0},
                         u64{1} << 63,
                         (u64{1} << 63) - 1,
                         ~u64{0} ^ u64{1} << 63,
                         0x5555'5555'5555'5555,
                         0xaaaa'aaaa'aaaa'aaaa};
    for (unsigned bit = bits; bit < 64; ++bit) { // one bit of the extension alone is wrong, either way
        all.push_back(u64{1} << bit);
        all.push_back(high_begin ^ u64{1} << bit);
    }
    std::erase_if(all, [&](u64 address) { return !is_alike_in_48_bits(address, bits); });
    return all;
}

// Bits of a physical address that must be 0: below its alignment, and beyond the CPU's addresses.
[[nodiscard]] inline std::vector<u64> physical_faults(unsigned alignment_bits, unsigned physical_bits) {
    std::vector<u64> all;
    for (unsigned bit = 0; bit < 64; ++bit) {
        if (bit < alignment_bits || bit >= physical_bits) {
            all.push_back(u64{1} << bit);
        }
    }
    all.push_back(~u64{0} << physical_bits);
    return all;
}

} // namespace refhv::front
