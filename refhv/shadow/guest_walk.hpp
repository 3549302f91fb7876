// SPDX-License-Identifier: MIT
// The guest's own page tables, walked in software as the CPU would (SDM 3A chapter 4; APM 2 chapter 5): the
// walk of x86/page_walk.hpp in the guest's format, rights combined, accessed and dirty flags set.
//
// Memory is x86::walk_tables's, and
//     bool Memory::exchange(u64 gpa, u64 old, u64 fresh)    atomically; false: it was not `old` any more
//     bool Memory::exchange32(u64 gpa, u32 old, u32 fresh)
#pragma once

#include "refhv/shadow/guest_formats.hpp"

namespace refhv::shadow {

// #PF error code (SDM 3A 4.7).
namespace fault {
inline constexpr u32 p = 1u << 0, w = 1u << 1, u = 1u << 2, rsvd = 1u << 3, id = 1u << 4, pk = 1u << 5;

// What the error code says about the access that raised it.
[[nodiscard]] constexpr Access access_of(u32 error) {
    return {(error & w) != 0, (error & id) != 0, (error & u) != 0};
}
} // namespace fault

// `level` is that of the entry that maps the page, or where the walk ended; `steps` holds the entries as they
// are after the walk, A and D set.
struct Walk : x86::TableWalk {
    bool ok;
    bool writable, user, no_execute; // of all levels together
    u32 error;                       // of the #PF, where not ok
    u64 page_bytes;                  // where a page was found, whatever its rights
    u64 gpa;                         // translated address, where ok
};

// Without paging: one page for everything, above every table.
inline constexpr unsigned unpaged_leaf = x86::max_levels;

namespace detail {

// Keys govern data accesses to user-mode addresses (SDM 3A 4.6.2).
[[nodiscard]] inline bool key_forbids(const PagingState& s, const Walk& w, Access a) {
    if (!s.pke() || !w.user || a.fetch) {
        return false;
    }
    const unsigned key = pte::key(w.steps[w.level].entry);
    return s.access_disabled(key) || (a.write && (a.user || s.wp()) && s.write_disabled(key));
}

// SDM 3A 4.6.1 and 4.7. 0: allowed; else the error code's bits besides W, U and I/D. PK shows what PKRU
// forbids, whatever else forbids it.
[[nodiscard]] inline u32 check_rights(const PagingState& s, const Walk& w, Access a) {
    const bool from_user = a.user && !w.user;
    if (a.fetch) {
        const bool smep_stops = !a.user && w.user && s.smep();
        return (w.no_execute || smep_stops || from_user) ? fault::p : 0;
    }
    const bool smap_stops = !a.user && w.user && s.smap() && (s.rflags & x86::rflags_bits::ac) == 0;
    const bool against_rw = a.write && !w.writable && (a.user || s.wp());
    const bool key_stops = key_forbids(s, w, a);
    return (from_user || smap_stops || against_rw || key_stops ? fault::p : 0) | (key_stops ? fault::pk : 0);
}

[[nodiscard]] inline u32 describe(const PagingState& s, Access a) {
    return (a.write ? fault::w : 0) | (a.user ? fault::u : 0) |
           (a.fetch && (s.nxe() || s.smep()) ? fault::id : 0);
}

template <class Format, class Memory>
[[nodiscard]] bool set_flags(const Format& format, Memory& memory, unsigned level, x86::WalkStep& step,
                             u64 flags) {
    if ((step.entry & flags) == flags) {
        return true;
    }
    if constexpr (sizeof(typename Format::Entry) == 4) {
        const u32 raw = memory.load32(step.at); // normal() moves address bits, but no flag
        if (format.normal(raw, level) != step.entry ||
            !memory.exchange32(step.at, raw, raw | static_cast<u32>(flags))) {
            return false;
        }
    } else if (!memory.exchange(step.at, step.entry, step.entry | flags)) {
        return false;
    }
    step.entry |= flags;
    return true;
}

// false: somebody changed an entry under us.
template <class Format, class Memory>
[[nodiscard]] bool walk_format(const Format& format, Memory& memory, const PagingState& s, u64 table,
                               unsigned levels, u64 gva, Access access, Walk& w) {
    x86::walk_tables(format, memory, table, levels, gva, w);
    w.ok = false;
    if (w.end != x86::WalkEnd::leaf) { // tables outside guest memory: nothing is there
        w.error = (w.end == x86::WalkEnd::reserved ? fault::p | fault::rsvd : 0) | describe(s, access);
        return true;
    }
    u64 all = ~u64{0}, any = 0;
    for (unsigned level = levels; level >= w.level; --level) {
        all &= w.steps[level].entry;
        any |= w.steps[level].entry;
    }
    w.writable = (all & pte::rw) != 0;
    w.user = (all & pte::us) != 0;
    w.no_execute = (any & pte::nx) != 0;
    w.page_bytes = x86::page_bytes<Format>(w.level);
    if (const u32 bits = check_rights(s, w, access); bits != 0) {
        w.error = bits | describe(s, access);
        return true;
    }
    for (unsigned level = levels; level >= w.level; --level) {
        const u64 flags = pte::a | (level == w.level && access.write ? pte::d : 0);
        if (!set_flags(format, memory, level, w.steps[level], flags)) {
            return false;
        }
    }
    const u64 offset = gva & (w.page_bytes - 1);
    w.gpa = (format.address(w.steps[w.level].entry) & ~(w.page_bytes - 1)) | offset;
    w.ok = true;
    return true;
}

inline void walk_unpaged(u64 gva, Walk& w) {
    w.ok = w.writable = w.user = true;
    w.no_execute = false;
    w.level = unpaged_leaf;
    w.page_bytes = u64{1} << 32;
    w.gpa = gva & 0xffff'ffff;
    w.steps[w.level] = {0, pte::p | pte::rw | pte::us | pte::a | pte::d};
}

template <class Memory>
[[nodiscard]] bool walk_once(Memory& memory, const PagingState& s, u64 gva, Access access, Walk& w) {
    const u64 root = s.cr3 & pte::address;
    const u64 low = gva & 0xffff'ffff;
    switch (s.paging()) {
    case Paging::level4:
        return walk_format(LongFormat{s}, memory, s, root, 4, gva, access, w);
    case Paging::level5:
        return walk_format(LongFormat{s}, memory, s, root, 5, gva, access, w);
    case Paging::bits32:
        return walk_format(Legacy32Format{s}, memory, s, root & 0xffff'ffff, 2, low, access, w);
    case Paging::pae:
        if (const u64 pdpte = s.pdpte[low >> 30]; (pdpte & pte::p) != 0) {
            return walk_format(PaeFormat{s}, memory, s, pdpte & pte::address, 2, low, access, w);
        }
        w.ok = false;
        w.level = 3;
        w.error = describe(s, access);
        return true;
    case Paging::none:
        break;
    }
    walk_unpaged(gva, w);
    return true;
}

} // namespace detail

// Translates, and sets accessed and dirty flags as the CPU does for an access that succeeds: A at every
// level, D in the leaf of a write (SDM 3A 4.8). An access that faults changes nothing.
template <class Memory>
void walk(Memory& memory, const PagingState& s, u64 gva, Access access, Walk& w) {
    while (!detail::walk_once(memory, s, gva, access, w)) {
    }
}

// What a load of CR3 puts into the PDPTE registers (SDM 3A 4.4.1). false: #GP, a present one has reserved
// bits set. A table outside memory is read as zeros.
template <class Memory>
[[nodiscard]] bool load_pdptes(Memory& memory, PagingState& s) {
    const u64 table = s.cr3 & 0xffff'ffe0;
    for (unsigned i = 0; i < 4; ++i) {
        const u64 at = table + 8 * i;
        s.pdpte[i] = memory.contains(at, 8) ? memory.load(at) : 0;
        if (PaeFormat::reserved_in_pdpte(s, s.pdpte[i]) != 0) {
            return false;
        }
    }
    return true;
}

} // namespace refhv::shadow
