// SPDX-License-Identifier: MIT
// Exception vectors, and which of them push an error code (SDM 3A table 6-1; APM 2 8.2).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86 {

namespace vector {
inline constexpr u32 debug = 1, nmi = 2, breakpoint = 3, overflow = 4, device_not_available = 7,
                     double_fault = 8, general_protection = 13, page_fault = 14, machine_check = 18;
} // namespace vector

// One bit a vector, as in the exception bitmap of a VMCS or VMCB.
[[nodiscard]] constexpr u32 vector_bit(u32 vector) {
    return 1u << vector;
}

// Of those that both vendors have: #DF, #TS to #PF, #AC, #CP. AMD's #VC (29) and #SX (30) push one too.
[[nodiscard]] constexpr bool has_error_code(u32 vector) {
    constexpr u32 which = 1u << 8 | 0x1fu << 10 | 1u << 17 | 1u << 21;
    return vector < 32 && (which >> vector & 1) != 0;
}

// Does this one make a #PF during its delivery a #DF (SDM 3A table 6-5; APM 2 table 8-3)? #DE and #TS to #PF.
[[nodiscard]] constexpr bool is_contributory(u32 vector) {
    return vector == 0 || (vector >= 10 && vector <= 14);
}

} // namespace refhv::x86
