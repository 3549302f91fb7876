// SPDX-License-Identifier: MIT
// Bits of a field that are the host's, whatever a client, a policy or a raw field asked for.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv {

struct Owned {
    u64 set = 0, clear = 0;
    [[nodiscard]] constexpr u64 over(u64 value) const { return (value | set) & ~clear; }
};

// CR4 bits that a guest may have: they concern its own paging, its own instructions and its own state in
// XSAVE areas. Not CET, PKS, UINTR, FRED and LASS, nor what is not yet known: their features work by MSRs
// that hold the host's values (SDM 3A 2.5; APM 2 3.1.3). VMXE and SMXE are VMX's own affair.
inline constexpr u64 guest_cr4_bits = 0x77'7fff;

} // namespace refhv
