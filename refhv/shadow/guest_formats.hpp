// SPDX-License-Identifier: MIT
// The formats of a guest's tables, as traits for x86::walk_tables. normal() of each gives an entry with the
// bits of the long-mode format, which 32-bit entries share but for the address of a 4-MByte page.
#pragma once

#include "refhv/shadow/paging_state.hpp"
#include "refhv/x86/page_walk.hpp"

namespace refhv::shadow {

// Entry bits (SDM 3A table 4-20).
namespace pte {
inline constexpr u64 p = 1u << 0, rw = 1u << 1, us = 1u << 2, pwt = 1u << 3, pcd = 1u << 4, a = 1u << 5,
                     d = 1u << 6, ps = 1u << 7, g = 1u << 8, pat_large = 1u << 12, nx = u64{1} << 63;
inline constexpr u64 address = 0x000f'ffff'ffff'f000;
inline constexpr unsigned key_shift = 59;

[[nodiscard]] constexpr unsigned key(u64 entry) {
    return entry >> key_shift & 15;
}
} // namespace pte

// 4-level and 5-level paging (SDM 3A 4.5, tables 4-14 to 4-20; APM 2 5.3).
struct LongFormat {
    using Entry = u64;
    static constexpr unsigned index_bits = 9;
    const PagingState& s;

    [[nodiscard]] static u64 normal(u64 e, unsigned) { return e; }
    [[nodiscard]] static bool present(u64 e) { return (e & pte::p) != 0; }
    [[nodiscard]] static bool is_leaf(u64 e, unsigned level) {
        return level == 1 || (level <= 3 && (e & pte::ps) != 0);
    }
    [[nodiscard]] static u64 address(u64 e) { return e & pte::address; }
    [[nodiscard]] u64 reserved(u64 e, unsigned level) const {
        u64 bits = (pte::address & s.beyond_physical()) | (s.nxe() ? 0 : pte::nx);
        if (level >= 4 || (level == 3 && !s.has_1g_pages)) {
            bits |= pte::ps;
        } else if (level > 1 && (e & pte::ps) != 0) {
            bits |= (x86::page_bytes<LongFormat>(level) - 1) & pte::address & ~pte::pat_large;
        }
        if (s.amd && level >= 3 && !is_leaf(e, level)) {
            bits |= pte::g;
        }
        return e & bits;
    }
};

// PAE paging below the PDPTE registers (SDM 3A 4.4.2, tables 4-9 to 4-11). Bits 62:52 are reserved here.
struct PaeFormat {
    using Entry = u64;
    static constexpr unsigned index_bits = 9;
    const PagingState& s;

    [[nodiscard]] static u64 normal(u64 e, unsigned) { return e; }
    [[nodiscard]] static bool present(u64 e) { return (e & pte::p) != 0; }
    [[nodiscard]] static bool is_leaf(u64 e, unsigned level) { return level == 1 || (e & pte::ps) != 0; }
    [[nodiscard]] static u64 address(u64 e) { return e & pte::address; }
    [[nodiscard]] u64 reserved(u64 e, unsigned level) const {
        u64 bits = (s.beyond_physical() & ~pte::nx) | (s.nxe() ? 0 : pte::nx);
        if (level == 2 && (e & pte::ps) != 0) {
            bits |= (x86::page_bytes<PaeFormat>(2) - 1) & pte::address & ~pte::pat_large;
        }
        return e & bits;
    }

    // Bits of a present PDPTE that must be 0 (SDM 3A table 4-8).
    [[nodiscard]] static u64 reserved_in_pdpte(const PagingState& s, u64 e) {
        constexpr u64 always = 0x1e6; // 2:1 and 8:5
        return (e & pte::p) != 0 ? e & (always | s.beyond_physical()) : 0;
    }
};

// 32-bit paging (SDM 3A 4.3, tables 4-4 to 4-6).
struct Legacy32Format {
    using Entry = u32;
    static constexpr unsigned index_bits = 10;
    const PagingState& s;

    // PSE-36: bits 20:13 of an entry that maps 4 MBytes are bits 39:32 of its address.
    [[nodiscard]] u64 normal(u32 e, unsigned level) const {
        if (!is_large(e, level)) {
            return e;
        }
        constexpr u32 high_and_reserved = 0x3f'e000;
        return (e & ~high_and_reserved) | (u64{e} >> 13 & 0xff) << 32 | (e & reserved_large());
    }
    [[nodiscard]] static bool present(u64 e) { return (e & pte::p) != 0; }
    [[nodiscard]] bool is_leaf(u64 e, unsigned level) const { return level == 1 || is_large(e, level); }
    [[nodiscard]] static u64 address(u64 e) { return e & pte::address; }
    // normal() keeps reserved bits where they stood; an address there would be misaligned.
    [[nodiscard]] u64 reserved(u64 e, unsigned level) const { return is_large(e, level) ? e & 0x3f'e000 : 0; }

  private:
    [[nodiscard]] bool is_large(u64 e, unsigned level) const {
        return level == 2 && s.pse() && (e & pte::ps) != 0;
    }
    // Bit 21, and what lies beyond MAXPHYADDR of the address bits in 20:13.
    [[nodiscard]] u32 reserved_large() const {
        constexpr u32 all = 0x3f'e000;
        const unsigned bits = !s.has_pse36 ? 32 : s.physical_bits < 40 ? s.physical_bits : 40;
        return all & ~((1u << (bits - 32 + 13)) - 1);
    }
};

} // namespace refhv::shadow
