// SPDX-License-Identifier: MIT
// How fast this CPU's time stamp counter runs, and who says so.
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv::client {

struct TscRate {
    u64 hz;
    abi::TscSource source;
};

// From CPUID.15H or the hypervisor's leaf 40000010H, else measured against CLOCK_MONOTONIC_RAW, which takes
// 20 ms and is good to about 50 ppm.
[[nodiscard]] TscRate tsc_rate();

} // namespace refhv::client
