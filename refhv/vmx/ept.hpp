// SPDX-License-Identifier: MIT
// Extended page-table entries (SDM 3C, tables 29-1 to 29-6) and the EPT pointer (table 25-9).
#pragma once

#include "refhv/core/nested_tables.hpp"

namespace refhv::vmx {

struct EptFormat {
    using Entry = u64;
    static constexpr unsigned index_bits = 9;
    static constexpr u64 read = 1, write = 2, execute = 4;
    static constexpr u64 memory_type_wb = 6u << 3;
    static constexpr u64 large = 1u << 7;
    static constexpr u64 flags = 1u << 8 | 1u << 9; // accessed, dirty
    static constexpr u64 address_mask = 0x000f'ffff'ffff'f000;

    static constexpr u64 table(u64 pa) { return pa | read | write | execute; }
    static constexpr u64 leaf(u64 pa, unsigned level, x86::Rights rights) {
        return pa | (has(rights, x86::Rights::r) ? read : 0) | (has(rights, x86::Rights::w) ? write : 0) |
               (has(rights, x86::Rights::x) ? execute : 0) | memory_type_wb | (level > 1 ? large : 0);
    }
    static constexpr bool present(u64 e) { return (e & (read | write | execute)) != 0; }
    // Under mode-based execute control bit 10 makes an entry present, too (SDM 3C 29.3.2).
    static constexpr bool may_be_present(u64 e) { return present(e) || (e >> 10 & 1) != 0; }
    static constexpr bool is_leaf(u64 e, unsigned level) { return level == 1 || (e & large) != 0; }
    static constexpr u64 address(u64 e) { return e & address_mask; }
    // The i-th of the 512 leaves that a leaf of `level` splits into.
    static constexpr u64 part(u64 e, unsigned level, u64 i) {
        return (e & ~(level == 2 ? large : 0)) + i * (x86::leaf_size(level) / 512);
    }
    static constexpr u64 normal(u64 e, unsigned) { return e; }
    // Below MAXPHYADDR: SDM 3C 29.3.3.1.
    static constexpr u64 reserved(u64 e, unsigned level) {
        if (level == 1) {
            return 0;
        }
        const bool leaf_here = is_leaf(e, level) && level <= 3;
        return e & (leaf_here ? (x86::page_bytes<EptFormat>(level) - 1) & address_mask
                              : u64{0x78} | (level > 3 ? large : 0));
    }
};

// Entries of a page-modification log (SDM 3C 29.3.6).
inline constexpr u64 pml_entries = 512;

// Write-back tables, a walk of four levels, accessed and dirty flags off.
[[nodiscard]] constexpr u64 ept_pointer(u64 root) {
    return root | 6 | (4 - 1) << 3;
}

static_assert(EptFormat::leaf(0x1000, 1, x86::Rights::all) == 0x1037);
static_assert(EptFormat::leaf(0x20'0000, 2, x86::Rights::r) == 0x20'00b1);
static_assert(ept_pointer(0x5000) == 0x501e);

} // namespace refhv::vmx
