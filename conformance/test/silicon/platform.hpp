// SPDX-License-Identifier: MIT
// The platform of the vendors' unit tests: physical memory is a buffer, and what the core asks of its host is
// counted.
#pragma once

#include "refhv/core/platform.hpp"

namespace refhv::silicon {

inline constexpr u64 physical_base = 0x10'0000;

struct Asked {
    u32 nmis = 0;           // take_nmi
    u32 machine_checks = 0; // machine_check
    u32 windows = 0;        // take_interrupts
};
inline Asked asked;

// What this platform permits: nothing, as a machine that somebody works on.
inline Permissions permissions;

// `bytes` of zeroed memory; what was there before is gone.
void reset_memory(u64 bytes);

} // namespace refhv::silicon
