// SPDX-License-Identifier: MIT
// What a CPU does with page tables, written a second time and in another way: the oracle of the shadow MMU's
// tests. It shares data types with the subject and no code. Sources: SDM 3A 4.3 to 4.8.
#pragma once

#include "refhv/shadow/paging_state.hpp"

#include <optional>
#include <vector>

namespace refhv::shadow::reference {

// What a walk makes known about a page; also what a TLB remembers.
struct Translation {
    u64 base, size;
    bool user, writable, executable;
    unsigned key;
};

struct Entry {
    u64 at;
    u64 value;
    unsigned bytes;
    bool has_flags; // accessed and dirty; a PDPTE register has not
    bool maps_page;
};

struct Result {
    bool present = false, reserved = false; // how the walk ended
    std::vector<Entry> entries;             // root first
    Translation page{};
};

namespace detail {

inline bool bit(u64 v, unsigned n) {
    return (v >> n & 1) != 0;
}
inline u64 bits(u64 v, unsigned high, unsigned low) {
    return v << (63 - high) >> (63 - high + low);
}
inline bool any_bit(u64 v, unsigned high, unsigned low) {
    return high >= low && bits(v, high, low) != 0;
}

} // namespace detail

// `read(at, bytes)` gives std::optional<u64>; nothing: no memory there, which counts as not present.
template <class Read>
Result walk_tables(const PagingState& s, u64 va, const Read& read) {
    using detail::any_bit, detail::bit, detail::bits;
    const bool paging = bit(s.cr0, 31), pae = bit(s.cr4, 5), lma = bit(s.efer, 10), la57 = bit(s.cr4, 12);
    Result r;
    r.page = {.base = 0, .size = u64{1} << 32, .user = true, .writable = true, .executable = true, .key = 0};
    if (!paging) {
        r.present = true;
        return r;
    }
    const unsigned width = s.physical_bits;
    struct Level {
        unsigned high, low; // bits of the address that index this table
    };
    std::vector<Level> levels;
    u64 table = bits(s.cr3, 51, 12) << 12;
    if (lma) {
        levels = {{47, 39}, {38, 30}, {29, 21}, {20, 12}};
        if (la57) {
            levels.insert(levels.begin(), {56, 48});
        }
    } else if (pae) {
        const u64 pdpte = s.pdpte[bits(va, 31, 30)];
        if (!bit(pdpte, 0)) {
            return r;
        }
        table = bits(pdpte, 51, 12) << 12;
        levels = {{29, 21}, {20, 12}};
    } else {
        table = bits(s.cr3, 31, 12) << 12;
        levels = {{31, 22}, {21, 12}};
    }
    const bool nx_on = bit(s.efer, 11) && pae;
    for (const Level& level : levels) {
        const unsigned bytes = pae ? 8 : 4;
        const u64 at = table + bits(va, level.high, level.low) * bytes;
        const std::optional<u64> value = read(at, bytes);
        r.entries.push_back({at, value.value_or(0), bytes, true, false});
        if (!value || !bit(*value, 0)) {
            return r;
        }
        const u64 e = *value;
        const bool ps = bit(e, 7);
        bool large = false;
        if (pae) {
            large = ps && (level.low == 21 || (level.low == 30 && s.has_1g_pages));
            const bool forbidden_ps = ps && level.low >= 30 && !large;
            const bool forbidden_high = any_bit(e, lma ? 51 : 62, width);
            const bool forbidden_global = s.amd && bit(e, 8) && level.low >= 30 && !large;
            const bool forbidden_low = large && any_bit(e, level.low - 1, 13);
            r.reserved =
                forbidden_ps || forbidden_global || forbidden_high || forbidden_low || (bit(e, 63) && !nx_on);
        } else {
            large = ps && level.low == 22 && bit(s.cr4, 4);
            const unsigned top = !s.has_pse36 ? 32 : width < 40 ? width : 40; // address bits 39:32 in 20:13
            r.reserved = large && any_bit(e, 21, top - 32 + 13);
        }
        if (r.reserved) {
            return r;
        }
        r.page.writable = r.page.writable && bit(e, 1);
        r.page.user = r.page.user && bit(e, 2);
        r.page.executable = r.page.executable && !(pae && bit(e, 63));
        if (large || level.low == 12) {
            r.entries.back().maps_page = true;
            r.present = true;
            r.page.size = u64{1} << level.low;
            r.page.base = bits(e, pae ? 51 : 31, level.low) << level.low;
            if (!pae && large) {
                r.page.base |= bits(e, 20, 13) << 32;
            }
            r.page.key = lma ? static_cast<unsigned>(bits(e, 62, 59)) : 0;
            return r;
        }
        table = bits(e, pae ? 51 : 31, 12) << 12;
    }
    return r;
}

// nullopt: the access is allowed. Else the bits P and PK that the violation contributes.
inline std::optional<u32> violation(const PagingState& s, const Translation& page, Access a) {
    using detail::bit;
    if (!bit(s.cr0, 31)) {
        return std::nullopt;
    }
    const bool wp = bit(s.cr0, 16), smep = bit(s.cr4, 20), smap = bit(s.cr4, 21);
    const bool pke = bit(s.cr4, 22) && bit(s.efer, 10), ac = bit(s.rflags, 18);
    if (a.fetch) {
        const bool good = page.executable && (a.user ? page.user : !(page.user && smep));
        return good ? std::nullopt : std::optional<u32>(1);
    }
    const bool checks_write = a.write && (wp || a.user);
    const bool forbidden_by_key =
        pke && page.user && (bit(s.pkru, 2 * page.key) || (checks_write && bit(s.pkru, 2 * page.key + 1)));
    bool good = !forbidden_by_key;
    good = good && !(a.user && !page.user);
    good = good && !(!a.user && page.user && smap && !ac);
    good = good && !(checks_write && !page.writable);
    return good ? std::nullopt : std::optional<u32>(forbidden_by_key ? 0x21 : 1);
}

// W, U and I/D of an error code.
inline u32 about_access(const PagingState& s, Access a) {
    using detail::bit;
    const bool tells_fetch = (bit(s.efer, 11) && bit(s.cr4, 5)) || bit(s.cr4, 20);
    return (a.write ? 2u : 0u) | (a.user ? 4u : 0u) | (a.fetch && tells_fetch ? 16u : 0u);
}

struct Outcome {
    bool ok;
    u32 error; // of a #PF
    u64 gpa;
    bool operator==(const Outcome&) const = default;
};

inline Outcome judge(const PagingState& s, const Result& r, u64 va, Access a) {
    if (!r.present) {
        return {false, (r.reserved ? 9u : 0u) | about_access(s, a), 0};
    }
    if (const auto bad = violation(s, r.page, a)) {
        return {false, *bad | about_access(s, a), 0};
    }
    return {true, 0, r.page.base + va % r.page.size};
}

// May CR3 or the control registers load these (SDM 3A 4.4.1)?
inline bool pdpte_is_good(const PagingState& s, u64 e) {
    using detail::any_bit;
    return !detail::bit(e, 0) || (!any_bit(e, 2, 1) && !any_bit(e, 8, 5) && !any_bit(e, 63, s.physical_bits));
}

} // namespace refhv::shadow::reference
