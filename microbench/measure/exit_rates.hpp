// SPDX-License-Identifier: MIT
// Exits per operation of guests whose own paging the core shadows.
#pragma once

#include "microbench/measure/measurement.hpp"

#include <array>

namespace refhv::bench {

// Exits of one run by abi::Reason.
using ReasonCounts = std::array<u64, static_cast<usize>(abi::Reason::count_)>;

// Is there a shadow MMU between the guest and the CPU?
[[nodiscard]] bool is_shadowed(abi::Mode mode);
// Reasons that a shadow MMU answers before any policy (docs/core.md).
[[nodiscard]] bool belongs_to_paging(abi::Reason reason);

// Of the five runs of a row: warm_up and twice are the same run of 2n rounds.
struct RateCounts {
    ReasonCounts warm_up{}, control{}, control_twice{}, once{}, twice{};
};

// What n operations more cost in exits, less what n rounds more of the control do. What a run pays once, for
// it starts with empty shadow tables, is in neither. Throws Invalid if two equal runs did not exit equally
// often, or a longer one less often than a shorter.
[[nodiscard]] ExitRates exit_rates(const RateCounts& counts, u64 operations);

// Throws Invalid unless the rates are those that the row declares for this mode.
void expect_exits(const Row& row, abi::Mode mode, const ExitRates& rates);

} // namespace refhv::bench
