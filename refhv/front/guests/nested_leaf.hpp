// SPDX-License-Identifier: MIT
// Leaves of nested tables, in the formats of both vendors.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::front {

// Rights as abi::NestedProtect has them.
inline constexpr u32 may_read = 1, may_write = 2, may_execute = 4, may_all = 7;

// A leaf of `level` in the EPT (SDM 3C tables 29-3, 29-5, 29-6): write-back, PAT heeded.
[[nodiscard]] constexpr u64 ept_leaf(u64 gpa, unsigned level, u32 rights) {
    constexpr u64 write_back = 6u << 3, large = 1u << 7;
    return gpa | rights | write_back | (level > 1 ? large : 0);
}

// A leaf of `level` in the nested page tables (APM 2 5.3.3, 5.3.4): a user page, PAT entry 0.
[[nodiscard]] constexpr u64 npt_leaf(u64 gpa, unsigned level, u32 rights) {
    constexpr u64 p = 1, rw = 2, us = 4, large = 1u << 7, nx = u64{1} << 63;
    return gpa | (rights != 0 ? p : 0) | us | ((rights & may_write) != 0 ? rw : 0) |
           ((rights & may_execute) != 0 ? 0 : nx) | (level > 1 ? large : 0);
}

} // namespace refhv::front
