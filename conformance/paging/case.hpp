// SPDX-License-Identifier: MIT
// One combination of the exhaustive paging table: what stands in the paging-structure entries, how the CPU is
// set, which access is tried, and what came of it. Guest code (paging_engine.cpp) and oracle
// (paging_oracle.cpp) share these encodings and nothing else.
#pragma once

#include "refhv/contract/abi.hpp"

#include <array>
#include <string>
#include <vector>

namespace refhv::front {

// A paging-structure entry without its address: bits as below; key in bits 7:4; number of one more bit
// to set in bits 13:8, 0 for none.
using EntryCode = u16;

inline constexpr EntryCode entry_p = 1u << 0;
inline constexpr EntryCode entry_rw = 1u << 1;
inline constexpr EntryCode entry_us = 1u << 2;
inline constexpr EntryCode entry_nx = 1u << 3;

[[nodiscard]] constexpr EntryCode with_key(EntryCode e, unsigned key) {
    return static_cast<EntryCode>(e | key << 4);
}
[[nodiscard]] constexpr EntryCode with_bit(EntryCode e, unsigned bit) {
    return static_cast<EntryCode>(e | bit << 8);
}
[[nodiscard]] constexpr unsigned key_of(EntryCode e) {
    return e >> 4 & 15;
}
[[nodiscard]] constexpr unsigned extra_bit_of(EntryCode e) {
    return e >> 8 & 63;
}

// The entries that translate the address, level by level. As the guest reads it.
struct EntrySet {
    std::array<EntryCode, 6> entry; // [1]: PTE to [4]: PML4E, [5]: PML5E; [0] unused
    u16 leaf;                       // level of the entry that maps the page: 1 4-KByte, 2 2-MByte, 3 1-GByte
    u16 zero;
};
static_assert(sizeof(EntrySet) == 16);

// Controls: bits as below, PKRU in bits 63:32. As the guest reads it.
inline constexpr u64 control_wp = 1u << 0;
inline constexpr u64 control_nxe = 1u << 1;
inline constexpr u64 control_smep = 1u << 2;
inline constexpr u64 control_smap = 1u << 3;
inline constexpr u64 control_ac = 1u << 4;
inline constexpr u64 control_pke = 1u << 5;

enum class Try : u8 {
    supervisor_read,
    supervisor_write,
    supervisor_fetch,
    user_read,
    user_write,
    user_fetch,
};
inline constexpr unsigned tries = 6;
[[nodiscard]] constexpr bool is_user(Try t) {
    return t >= Try::user_read;
}
[[nodiscard]] constexpr bool is_write(Try t) {
    return t == Try::supervisor_write || t == Try::user_write;
}
[[nodiscard]] constexpr bool is_fetch(Try t) {
    return t == Try::supervisor_fetch || t == Try::user_fetch;
}

// What came of a try, as the guest writes it: page-fault error code in bits 6:0; bit 7 + level: the entry of
// that level has its accessed flag set (it was clear before).
inline constexpr u16 result_error = 0x7f;
inline constexpr u16 result_cr2 = 1u << 7;        // CR2 is not the address
inline constexpr u16 result_accessed_1 = 1u << 8; // … bit 12: level 5
inline constexpr u16 result_dirty = 1u << 13;     // of the leaf
inline constexpr u16 result_strange =
    1u << 14; // another bit of an entry changed, or the exception came from elsewhere
inline constexpr u16 result_fault = 1u << 15; // #PF

// A part of the table: every set under every control, each with every Try.
struct PagingBatch {
    std::vector<EntrySet> sets;
    std::vector<u64> controls;
    [[nodiscard]] u64 combinations() const { return sets.size() * controls.size() * tries; }
};

// What decides about reserved bits and rights on a machine.
struct PagingMachine {
    unsigned levels;        // 4 or 5
    unsigned physical_bits; // MAXPHYADDR
    bool has_1g_pages;
    bool has_smep, has_smap, has_pku;
    bool amd;     // bit 8 of a PML4E, PML5E and PDPTE that points to a table is reserved (APM 2 5.3.3)
    bool has_cet; // D is set beforehand in leaves without R/W (open_dirty_flag)
};

[[nodiscard]] std::string to_string(const EntrySet& set);
[[nodiscard]] std::string to_string(u64 control, Try t);
[[nodiscard]] std::string result_to_string(u16 result);

} // namespace refhv::front
