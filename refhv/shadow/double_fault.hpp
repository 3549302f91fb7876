// SPDX-License-Identifier: MIT
#pragma once

#include "refhv/x86/exceptions.hpp"

namespace refhv::shadow {

// Is a #PF during the delivery of this event a double fault (SDM 3A table 6-5; APM 2 table 8-3)?
// IDT-vectoring information and EXITINTINFO have one format as far as it matters.
[[nodiscard]] constexpr bool makes_double_fault(u64 vectoring) {
    constexpr u64 valid = 1u << 31, hardware_exception = 3;
    return (vectoring & valid) != 0 && (vectoring >> 8 & 7) == hardware_exception &&
           x86::is_contributory(vectoring & 0xff);
}

static_assert(makes_double_fault(0x8000'030e) && makes_double_fault(0x8000'0b0d));
static_assert(!makes_double_fault(0x8000'000e) && !makes_double_fault(0x8000'0306));

} // namespace refhv::shadow
