// SPDX-License-Identifier: MIT
// What a shadow entry that maps a page says, given what the guest's tables say.
#pragma once

#include "refhv/shadow/guest_walk.hpp"

namespace refhv::shadow {

// In an entry that points to a table: what lies behind it are parts of one guest page. Ignored by the CPU.
inline constexpr u64 fraction = 1u << 9;

// Address, memory type and protection key. `level`: of the shadow entry; `guest`: the guest's entry.
[[nodiscard]] inline u64 leaf_base(const PagingState& s, u64 pa, unsigned level, u64 guest,
                                   unsigned guest_level) {
    const bool pat = (guest & (guest_level > 1 ? pte::pat_large : pte::ps)) != 0;
    return pa | pte::p | pte::a | pte::d | (guest & (pte::pwt | pte::pcd)) |
           (s.pke() ? guest & (u64{15} << pte::key_shift) : 0) | (level > 1 ? pte::ps : 0) |
           (pat ? (level > 1 ? pte::pat_large : pte::ps) : 0);
}

// Rights of a table that stands for the guest's own: those of its entry. Without D in the guest's entry the
// first write must come to the MMU, to set it.
[[nodiscard]] inline u64 tracked_rights(u64 guest) {
    const bool writable = (guest & pte::rw) != 0 && (guest & pte::d) != 0;
    return (guest & (pte::us | pte::nx)) | (writable ? pte::rw : 0);
}

// A write of the supervisor that CR0.WP = 0 lets through and WP = 1 would not.
[[nodiscard]] inline bool is_against_rights(const PagingState& s, const Walk& w, Access a) {
    const bool key = s.pke() && w.user && s.write_disabled(pte::key(w.steps[w.level].entry));
    return a.write && !a.user && !s.wp() && (!w.writable || key);
}

// Rights of the software TLB: all levels together, for this access. What the supervisor wrote against the
// rights is its own alone (not executable under SMEP) until the user asks.
[[nodiscard]] inline u64 tlb_rights(const PagingState& s, const Walk& w, Access a) {
    const bool against = is_against_rights(s, w, a);
    const bool writable = against || (w.writable && (w.steps[w.level].entry & pte::d) != 0);
    const bool no_execute = w.no_execute || (against && w.user && s.smep());
    return (writable ? pte::rw : 0) | (w.user && !against ? pte::us : 0) | (no_execute ? pte::nx : 0);
}

// Such an entry of a user page escapes SMAP and protection keys, whose registers change without an exit: it
// is good for one instruction.
[[nodiscard]] inline bool is_for_one_instruction(const PagingState& s, const Walk& w, Access a) {
    return is_against_rights(s, w, a) && w.user && (s.smap() || s.pke());
}

// What a split page stands for: the large page and every bit of the guest's entry that its leaves show.
[[nodiscard]] constexpr u64 split_key(u64 gpa, u64 guest) {
    // RW US PWT PCD, D, PAT, NX, key: below bit 12
    const u64 low = (guest >> 1 & 15) | (guest >> 2 & 16) | (guest >> 7 & 32) | (guest >> 57 & 64);
    return gpa | low | (guest >> pte::key_shift & 15) << 7;
}

} // namespace refhv::shadow
