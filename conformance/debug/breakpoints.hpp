// SPDX-License-Identifier: MIT
// One breakpoint, loaded by the entry or set by the guest.
#pragma once

#include "conformance/debug/case.hpp"

namespace refhv::front {

inline constexpr u64 breakpoint_target = REFHV_SCRATCH + 64; // aligned, with room on both sides

// By the entry, or by the guest: in RAX, RBX, RCX and RDX for DR0 to DR3, in RSI for DR7.
inline void set_breakpoint(abi::GuestState& state, bool by_guest, unsigned number, u64 address, u64 dr7) {
    if (by_guest) {
        constexpr abi::Gpr registers[] = {abi::rax, abi::rbx, abi::rcx, abi::rdx};
        for (const auto r : registers) {
            state.gpr[r] = 0;
        }
        state.gpr[registers[number]] = address;
        state.gpr[abi::rsi] = dr7;
        return;
    }
    for (u64& dr : state.dr) {
        dr = 0;
    }
    state.dr[number] = address;
    state.dr7 = dr7;
}

class DebugBreakpoints : public DebugArmed {
  protected:
    // Every register, kind and length; `misalign`: the breakpoint's address has low bits that do not count.
    static void data(bool by_guest, u64 misalign);
    static void instructions(bool by_guest);
};

} // namespace refhv::front
