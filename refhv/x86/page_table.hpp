// SPDX-License-Identifier: MIT
// What formats that also encode (EPT, NPT) have in common; see page_walk.hpp for how they are read.
//     static u64  Format::table(u64 pa);                        entry that points to the next table
//     static u64  Format::leaf(u64 pa, unsigned level, Rights); entry that maps a page
// Levels count from 1 (4-KByte leaves): 2 maps 2 MBytes, 3 maps 1 GByte.
#pragma once

#include "refhv/x86/page_walk.hpp"

namespace refhv::x86 {

enum class Rights : u8 {
    none = 0,
    r = 1,
    w = 2,
    x = 4,
    all = 7,
};

[[nodiscard]] constexpr bool has(Rights a, Rights b) {
    return (static_cast<u8>(a) & static_cast<u8>(b)) != 0;
}

[[nodiscard]] constexpr u64 leaf_size(unsigned level) {
    return page_size << (9 * (level - 1));
}

} // namespace refhv::x86
