// SPDX-License-Identifier: MIT
// CR0 and CR4 of this CPU bit by bit, for platforms that keep no copy of them. CR4.VMXE needs CR0's bits (SDM
// 3C 24.8): added after them, removed before.
#pragma once

#include "refhv/x86/intrinsics.hpp"

namespace refhv::x86 {

inline void add_control_bits(u64 cr0, u64 cr4) {
    if (cr0 != 0) {
        write_cr0(read_cr0() | cr0);
    }
    if (cr4 != 0) {
        write_cr4(read_cr4() | cr4);
    }
}

inline void remove_control_bits(u64 cr0, u64 cr4) {
    if (cr4 != 0) {
        write_cr4(read_cr4() & ~cr4);
    }
    if (cr0 != 0) {
        write_cr0(read_cr0() & ~cr0);
    }
}

} // namespace refhv::x86
