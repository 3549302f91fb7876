// SPDX-License-Identifier: MIT
// One walk for every page-table format: guest tables of every paging mode, shadow tables, EPT, NPT.
//
// Format is a trait; its functions may depend on what the object holds (control registers, MAXPHYADDR):
//     using Entry                                       u32 or u64, as it lies in memory
//     static constexpr unsigned index_bits              9: 512 entries a table; 10: 1024
//     u64  Format::normal(Entry, unsigned level)        the entry with its address where 64-bit formats have
//     it bool Format::present(u64) bool Format::is_leaf(u64, unsigned level)         of a present one; level
//     1 always is u64  Format::reserved(u64, unsigned level)        those of its bits that must be 0 and are
//     not u64  Format::address(u64)                         of the next table, or of the page before its low
//     bits go
// All but the first two take what normal() gave. Memory is a policy:
//     u64  Memory::load(u64 pa), u32 Memory::load32(u64 pa)   an aligned entry; only the width in use is
//     needed bool Memory::contains(u64 pa, u64 size)                 if it is lacking, every address is there
// Levels count from 1, the level whose entries map 4-KByte pages.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86 {

inline constexpr unsigned max_levels = 5;

template <class Format>
[[nodiscard]] constexpr unsigned page_shift(unsigned level) {
    return 12 + Format::index_bits * (level - 1);
}

// Bytes that an entry of this level maps.
template <class Format>
[[nodiscard]] constexpr u64 page_bytes(unsigned level) {
    return u64{1} << page_shift<Format>(level);
}

// Where the entry for this address stands in a table of this level.
template <class Format>
[[nodiscard]] constexpr u64 entry_address(u64 table, u64 address, unsigned level) {
    constexpr u64 index_mask = (u64{1} << Format::index_bits) - 1;
    return table + sizeof(typename Format::Entry) * (address >> page_shift<Format>(level) & index_mask);
}

enum class WalkEnd : u8 {
    leaf,        // the last entry maps a page
    not_present, // the last entry is not present
    reserved,    // the last entry has reserved bits set
    outside,     // the last entry lies where there is no memory: it was not read
};

struct WalkStep {
    u64 at;    // physical address of the entry
    u64 entry; // normal()
};

struct TableWalk {
    WalkEnd end;
    unsigned level;                 // of the last entry
    WalkStep steps[max_levels + 1]; // [level], from the root to the last entry
};

template <class Format, class Memory>
[[nodiscard]] u64 read_entry(const Format& format, Memory& memory, u64 at, unsigned level) {
    if constexpr (sizeof(typename Format::Entry) == 4) {
        return format.normal(memory.load32(at), level);
    } else {
        return format.normal(memory.load(at), level);
    }
}

// Reads one entry a level, from the table of level `from` down, and nothing else.
template <class Format, class Memory>
void walk_tables(const Format& format, Memory& memory, u64 table, unsigned from, u64 address, TableWalk& w) {
    for (unsigned level = from;; --level) {
        const u64 at = entry_address<Format>(table, address, level);
        w.level = level;
        w.steps[level] = {at, 0};
        if constexpr (requires { memory.contains(at, sizeof(typename Format::Entry)); }) {
            if (!memory.contains(at, sizeof(typename Format::Entry))) {
                w.end = WalkEnd::outside;
                return;
            }
        }
        const u64 entry = read_entry(format, memory, at, level);
        w.steps[level].entry = entry;
        if (!format.present(entry)) {
            w.end = WalkEnd::not_present;
            return;
        }
        if (format.reserved(entry, level) != 0) {
            w.end = WalkEnd::reserved;
            return;
        }
        if (level == 1 || format.is_leaf(entry, level)) {
            w.end = WalkEnd::leaf;
            return;
        }
        table = format.address(entry);
    }
}

} // namespace refhv::x86
