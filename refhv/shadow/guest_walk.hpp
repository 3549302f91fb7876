// SPDX-License-Identifier: MIT
// The guest's own page tables, walked in software as the CPU would (SDM 3A chapter 4; APM 2 chapter 5).
//
// Long mode, 4 and 5 levels. Memory is a policy:
//     bool Memory::contains(u64 gpa, u64 size)
//     u64  Memory::load(u64 gpa)                         an aligned entry
//     bool Memory::exchange(u64 gpa, u64 old, u64 fresh) atomically; false: it was not `old` any more
#pragma once

#include "refhv/x86/registers.hpp"

namespace refhv::shadow {

// Entry bits (SDM 3A table 4-20).
namespace pte {
inline constexpr u64 p = 1u << 0, rw = 1u << 1, us = 1u << 2, pwt = 1u << 3, pcd = 1u << 4, a = 1u << 5,
                     d = 1u << 6, ps = 1u << 7, g = 1u << 8, pat_large = 1u << 12, nx = u64{1} << 63;
inline constexpr u64 address = 0x000f'ffff'ffff'f000;
inline constexpr unsigned key_shift = 59;
} // namespace pte

// #PF error code (SDM 3A 4.7).
namespace fault {
inline constexpr u32 p = 1u << 0, w = 1u << 1, u = 1u << 2, rsvd = 1u << 3, id = 1u << 4, pk = 1u << 5;
}

// What decides about an access besides the tables.
struct PagingState {
    u64 cr0, cr3, cr4, efer;
    u64 rflags; // AC
    u32 pkru;
    u8 physical_bits; // MAXPHYADDR
    bool has_1g_pages;

    [[nodiscard]] bool nxe() const { return (efer & x86::efer::nxe) != 0; }
    [[nodiscard]] bool wp() const { return (cr0 & x86::cr0::wp) != 0; }
    [[nodiscard]] bool smep() const { return (cr4 & x86::cr4::smep) != 0; }
    [[nodiscard]] bool smap() const { return (cr4 & x86::cr4::smap) != 0; }
    [[nodiscard]] bool pke() const { return (cr4 & x86::cr4::pke) != 0; }
    [[nodiscard]] unsigned levels() const { return (cr4 & x86::cr4::la57) != 0 ? 5 : 4; }
};

struct Access {
    bool write = false;
    bool fetch = false;
    bool user = false;

    // What the error code of a #PF says about the access that raised it.
    [[nodiscard]] static Access of(u32 error) {
        return {(error & fault::w) != 0, (error & fault::id) != 0, (error & fault::u) != 0};
    }
};

struct Step {
    u64 gpa;   // of the entry
    u64 entry; // as it is after the walk, A and D set
};

struct Walk {
    bool ok;
    u32 error;                       // of the #PF, where not ok
    unsigned leaf;                   // level of the entry that maps the page, 1 to 3; or where the walk ended
    u64 gpa;                         // translated address
    bool writable, user, no_execute; // of all levels together
    Step steps[6];                   // [level], leaf to root
};

namespace detail {

// Bits that must be 0 in a present entry (SDM 3A 4.5.4, tables 4-14 to 4-20).
[[nodiscard]] inline u64 reserved_bits(const PagingState& s, unsigned level, u64 entry) {
    u64 bits = pte::address & ~((u64{1} << s.physical_bits) - 1);
    bits |= s.nxe() ? 0 : pte::nx;
    if (level >= 4) {
        return bits | pte::ps;
    }
    if (level == 3 && !s.has_1g_pages) {
        return bits | pte::ps;
    }
    if (level > 1 && (entry & pte::ps) != 0) {
        const u64 size = page_size << (9 * (level - 1));
        bits |= (size - 1) & pte::address & ~pte::pat_large;
    }
    return bits;
}

// SDM 3A 4.6.1 and 4.6.2. 0: allowed; else the error code's bits besides W, U and I/D.
[[nodiscard]] inline u32 check_rights(const PagingState& s, const Walk& w, Access a) {
    if (a.fetch) {
        const bool smep_stops = !a.user && w.user && s.smep();
        return (w.no_execute || smep_stops || (a.user && !w.user)) ? fault::p : 0;
    }
    if (a.user && !w.user) {
        return fault::p;
    }
    if (!a.user && w.user && s.smap() && (s.rflags & x86::rflags_bits::ac) == 0) {
        return fault::p;
    }
    if (a.write && !w.writable && (a.user || s.wp())) {
        return fault::p;
    }
    if (s.pke() && w.user) { // SDM 3A 4.6.2: keys govern data accesses to user-mode addresses
        const unsigned key = w.steps[w.leaf].entry >> pte::key_shift & 15;
        const bool access_disabled = (s.pkru >> (2 * key) & 1) != 0;
        const bool write_disabled = (s.pkru >> (2 * key + 1) & 1) != 0;
        if (access_disabled || (a.write && write_disabled && (a.user || s.wp()))) {
            return fault::p | fault::pk;
        }
    }
    return 0;
}

[[nodiscard]] inline u32 describe(const PagingState& s, Access a) {
    return (a.write ? fault::w : 0) | (a.user ? fault::u : 0) |
           (a.fetch && (s.nxe() || s.smep()) ? fault::id : 0);
}

} // namespace detail

// Translates, and sets accessed and dirty flags as the CPU does for an access that succeeds: A at every
// level, D in the leaf of a write (SDM 3A 4.8). An access that faults changes nothing.
template <class Memory>
[[nodiscard]] Walk walk(Memory& memory, const PagingState& s, u64 gva, Access access) {
    for (;;) { // again if somebody changed an entry under us
        Walk w{};
        w.writable = w.user = true;
        u64 table = s.cr3 & pte::address;
        const auto fail = [&](u32 bits) {
            w.ok = false;
            w.error = bits | detail::describe(s, access);
            return w;
        };
        for (unsigned level = s.levels();; --level) {
            const u64 at = table + 8 * (gva >> (12 + 9 * (level - 1)) & 511);
            w.leaf = level;
            if (!memory.contains(at, 8)) {
                return fail(0); // tables outside guest memory: nothing is there
            }
            const u64 entry = memory.load(at);
            w.steps[level] = {at, entry};
            if ((entry & pte::p) == 0) {
                return fail(0);
            }
            if ((entry & detail::reserved_bits(s, level, entry)) != 0) {
                return fail(fault::p | fault::rsvd);
            }
            w.writable = w.writable && (entry & pte::rw) != 0;
            w.user = w.user && (entry & pte::us) != 0;
            w.no_execute = w.no_execute || (entry & pte::nx) != 0;
            if (level == 1 || (level <= 3 && (entry & pte::ps) != 0)) {
                break;
            }
            table = entry & pte::address;
        }
        if (const u32 bits = detail::check_rights(s, w, access); bits != 0) {
            return fail(bits);
        }
        bool raced = false;
        for (unsigned level = s.levels(); level >= w.leaf && !raced; --level) {
            Step& step = w.steps[level];
            const u64 wanted = step.entry | pte::a | (level == w.leaf && access.write ? pte::d : 0);
            raced = wanted != step.entry && !memory.exchange(step.gpa, step.entry, wanted);
            step.entry = wanted;
        }
        if (raced) {
            continue;
        }
        const u64 offset_mask = (page_size << (9 * (w.leaf - 1))) - 1;
        w.gpa = (w.steps[w.leaf].entry & pte::address & ~offset_mask) | (gva & offset_mask);
        w.ok = true;
        return w;
    }
}

} // namespace refhv::shadow
