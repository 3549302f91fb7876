// SPDX-License-Identifier: MIT
// Exception vectors, and which of them push an error code (SDM 3A table 6-1; APM 2 8.2).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86 {

namespace vector {
inline constexpr u32 debug = 1, nmi = 2, breakpoint = 3, overflow = 4, device_not_available = 7,
                     double_fault = 8, general_protection = 13, page_fault = 14, alignment_check = 17,
                     machine_check = 18;
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

// What becomes of an exception that is met while another event is delivered (SDM 3A table 6-5; APM 2 table
// 8-3).
enum class Second : u8 {
    delivered,    // in place of the first
    double_fault, // both become one #DF
    shutdown,     // it was met in the delivery of a #DF
};

// `first`: IDT-vectoring information or EXITINTINFO, which have one format as far as it matters. Contributory
// are #DE, #TS to #GP and #CP. A #PF in the delivery of one of them is delivered; one of them in that of a
// #PF is not.
[[nodiscard]] constexpr Second second_exception(u64 first, u32 which) {
    constexpr u64 valid = 1u << 31, hardware_exception = 3;
    constexpr u32 control_protection = 21;
    const auto contributory = [](u64 v) { return v == 0 || (v >= 10 && v <= 13) || v == control_protection; };
    const u64 before = first & 0xff;
    const bool faults = contributory(which) || which == vector::page_fault;
    if ((first & valid) == 0 || (first >> 8 & 7) != hardware_exception || !faults) {
        return Second::delivered;
    }
    if (before == vector::double_fault) {
        return Second::shutdown;
    }
    return (contributory(before) && contributory(which)) || before == vector::page_fault
               ? Second::double_fault
               : Second::delivered;
}

static_assert(second_exception(0x8000'030e, 14) == Second::double_fault);
static_assert(second_exception(0x8000'030e, 13) == Second::double_fault);
static_assert(second_exception(0x8000'0b0d, 11) == Second::double_fault);
static_assert(second_exception(0x8000'0b0d, 14) == Second::delivered);
static_assert(second_exception(0x8000'030e, 1) == Second::delivered);
static_assert(second_exception(0x8000'0020, 14) == Second::delivered); // an external interrupt
static_assert(second_exception(0x8000'0603, 13) == Second::delivered); // INT3
static_assert(second_exception(0x8000'0b08, 14) == Second::shutdown);
static_assert(second_exception(0x0000'030e, 14) == Second::delivered);

} // namespace refhv::x86
