// SPDX-License-Identifier: MIT
// When MOV to CR0, CR3, CR4 and WRMSR of EFER are #GP, and what else they change (SDM 2B MOV to CR, 3A 2.5
// and 4.1.2; APM 2 3.1 and 14.6).
#pragma once

#include "refhv/shadow/paging_state.hpp"

namespace refhv::shadow {

enum class Written : u8 {
    done,
    fault,    // #GP(0): nothing changed
    not_ours, // beyond what is shadowed: nothing changed
};

// What the CPU offers its guests.
struct Offer {
    u64 cr4, efer;
};

struct Controls {
    u64 cr0, cr4, efer;
};

// `code64`: the guest is in 64-bit mode (CS.L).
[[nodiscard]] inline Written after_cr0(const PagingState& s, u64 value, bool code64, Controls& next) {
    using namespace x86;
    constexpr u64 defined = cr0::pe | cr0::mp | cr0::em | cr0::ts | cr0::et | cr0::ne | cr0::wp | cr0::am |
                            cr0::nw | cr0::cd | cr0::pg;
    const bool paging = (value & cr0::pg) != 0, was = (s.cr0 & cr0::pg) != 0;
    if (value >> 32 != 0 || (value & (cr0::pg | cr0::pe)) == cr0::pg ||
        (value & (cr0::nw | cr0::cd)) == cr0::nw) {
        return Written::fault;
    }
    if (paging && !was && (s.efer & efer::lme) != 0 && ((s.cr4 & cr4::pae) == 0 || code64)) {
        return Written::fault;
    }
    if (!paging && was && s.long_mode() && (code64 || (s.cr4 & cr4::pcide) != 0)) {
        return Written::fault;
    }
    if ((value & cr0::pe) == 0) {
        return Written::not_ours; // real mode
    }
    const bool lma = paging && (s.efer & efer::lme) != 0;
    next = {(value & defined) | cr0::et, s.cr4, (s.efer & ~efer::lma) | (lma ? efer::lma : 0)};
    return Written::done;
}

[[nodiscard]] inline Written after_cr4(const PagingState& s, u64 value, const Offer& offer, Controls& next) {
    using namespace x86;
    const u64 changed = value ^ s.cr4;
    constexpr u64 fixed_in_long_mode = cr4::pae | cr4::la57;
    const bool tags_on = (changed & value & cr4::pcide) != 0;
    if ((value & ~offer.cr4) != 0 || (s.long_mode() && (changed & fixed_in_long_mode) != 0) ||
        (tags_on && (!s.long_mode() || (s.cr3 & 0xfff) != 0))) {
        return Written::fault;
    }
    next = {s.cr0, value, s.efer};
    return Written::done;
}

// LMA is the CPU's to set.
[[nodiscard]] inline Written after_efer(const PagingState& s, u64 value, const Offer& offer, Controls& next) {
    using namespace x86;
    const bool lme_changes = ((value ^ s.efer) & efer::lme) != 0;
    if ((value & ~(offer.efer | efer::lma)) != 0 || (lme_changes && (s.cr0 & cr0::pg) != 0)) {
        return Written::fault;
    }
    next = {s.cr0, s.cr4, (value & ~efer::lma) | (s.efer & efer::lma)};
    return Written::done;
}

// Bit 63 under CR4.PCIDE asks to keep translations; we may forget all the same.
[[nodiscard]] inline Written after_cr3(const PagingState& s, u64 value, u64& cr3) {
    constexpr u64 keep = u64{1} << 63;
    cr3 = (s.cr4 & x86::cr4::pcide) != 0 ? value & ~keep : value;
    return (cr3 & s.beyond_physical()) != 0 ? Written::fault : Written::done;
}

// Do these registers go together, as a whole?
[[nodiscard]] inline bool is_consistent(const PagingState& s, const Offer& offer) {
    using namespace x86;
    const bool pe = (s.cr0 & cr0::pe) != 0, pg = (s.cr0 & cr0::pg) != 0, pae = (s.cr4 & cr4::pae) != 0;
    const bool lme = (s.efer & efer::lme) != 0, lma = s.long_mode();
    return pe && (s.cr4 & ~offer.cr4) == 0 && (s.efer & ~(offer.efer | efer::lma)) == 0 &&
           lma == (lme && pg) && (!lma || pae) && (lma || (s.cr4 & cr4::pcide) == 0) &&
           (s.cr3 & s.beyond_physical()) == 0;
}

} // namespace refhv::shadow
