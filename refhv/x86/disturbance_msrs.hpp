// SPDX-License-Identifier: MIT
// MSRs that tell what came between while something was measured (SDM 4, tables 2-2 and 2-3; APM 2, appendix
// A).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86::msr {

inline constexpr u32 smi_count = 0x34;             // Intel: bits 31:0
inline constexpr u32 mperf = 0xe7, aperf = 0xe8;   // CPUID.06H:ECX[0]
inline constexpr u32 therm_status = 0x19c;         // Intel: CPUID.01H:EDX[22]
inline constexpr u32 package_therm_status = 0x1b1; // Intel: CPUID.06H:EAX[6]
inline constexpr u32 disturbance_msrs_of_intel[] = {smi_count, therm_status, package_therm_status};
inline constexpr u32 disturbance_msrs_of_all[] = {mperf, aperf};

[[nodiscard]] constexpr bool is_of_a_moment(u32 index) {
    return index == smi_count || index == mperf || index == aperf || index == therm_status ||
           index == package_therm_status;
}

} // namespace refhv::x86::msr
