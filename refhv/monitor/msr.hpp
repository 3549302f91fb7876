// SPDX-License-Identifier: MIT
// The MSRs that a guest of the monitor has.
#pragma once

#include "refhv/monitor/cpuid.hpp"

#include <optional>

namespace refhv::monitor {

// What RDMSR gives; nothing: #GP. `tsc` is the target's clock at the exit.
[[nodiscard]] std::optional<u64> read_msr(u32 index, const abi::GuestState& state, u64 tsc);
// What WRMSR does. false: #GP.
[[nodiscard]] bool write_msr(u32 index, u64 value, abi::GuestState& state, const CpuModel& cpu);

} // namespace refhv::monitor
