// SPDX-License-Identifier: MIT
// Nested page-table entries: the long-mode format, every access a user access (APM 2 15.25.5).
#pragma once

#include "refhv/core/nested_tables.hpp"

namespace refhv::svm {

struct NptFormat {
    using Entry = u64;
    static constexpr unsigned index_bits = 9;
    static constexpr u64 p = 1, rw = 2, us = 4, ps = 1u << 7, nx = 1ull << 63;
    static constexpr u64 flags = 1u << 5 | 1u << 6; // A, D
    static constexpr u64 address_mask = 0x000f'ffff'ffff'f000;

    static constexpr u64 table(u64 pa) { return pa | p | rw | us; }
    static constexpr u64 leaf(u64 pa, unsigned level, x86::Rights rights) {
        return pa | p | us | (has(rights, x86::Rights::w) ? rw : 0) | (has(rights, x86::Rights::x) ? 0 : nx) |
               (level > 1 ? ps : 0);
    }
    static constexpr bool present(u64 e) { return (e & p) != 0; }
    static constexpr bool may_be_present(u64 e) { return present(e); }
    static constexpr bool is_leaf(u64 e, unsigned level) { return level == 1 || (e & ps) != 0; }
    static constexpr u64 address(u64 e) { return e & address_mask; }
    // The i-th of the 512 leaves that a leaf of `level` splits into. PAT is bit 12 of a large leaf, 7 of
    // others.
    static constexpr u64 part(u64 e, unsigned level, u64 i) {
        constexpr u64 large_pat = 1u << 12;
        const u64 pat = level == 2 && (e & large_pat) != 0 ? ps : 0;
        const u64 rest = level == 2 ? e & ~(ps | large_pat) : e;
        return (rest | pat) + i * (x86::leaf_size(level) / 512);
    }
    static constexpr u64 normal(u64 e, unsigned) { return e; }
    // Below the physical address size, with EFER.NXE = 1: APM 2 5.3.
    static constexpr u64 reserved(u64 e, unsigned level) {
        constexpr u64 pat = 1u << 12;
        return level == 1          ? 0
               : level > 3         ? e & ps
               : is_leaf(e, level) ? e & (x86::page_bytes<NptFormat>(level) - 1) & address_mask & ~pat
                                   : 0;
    }
};

static_assert(NptFormat::leaf(0x1000, 1, x86::Rights::all) == 0x1007);
static_assert(NptFormat::leaf(0x20'0000, 2, x86::Rights::r) == (NptFormat::nx | 0x20'0085));

} // namespace refhv::svm
