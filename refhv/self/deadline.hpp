// SPDX-License-Identifier: MIT
// What both kinds of guest of a process need of the system: an end in time, and a count of disturbances.
#pragma once

#include "refhv/contract/abi.hpp"

#include <ctime>

namespace refhv::client::self {

// How long a run may take: Run::deadline in nanoseconds, and never longer than longest_run_seconds (run.hpp).
[[nodiscard]] u64 deadline_ns(const abi::Run& run, u64 tsc_hz);

// 0 disarms. It fires again every millisecond: one that comes before the guest's first instruction may be
// lost.
void set_timer(timer_t timer, u64 ns);

// Of this thread, so far.
[[nodiscard]] u64 involuntary_switches();

} // namespace refhv::client::self
