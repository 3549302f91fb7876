// SPDX-License-Identifier: MIT
// Rows that the guest cannot time (Clock::host, Clock::host_unprompted): docs/method.md, "The host's clock".
#pragma once

#include "microbench/measure/measurement.hpp"

namespace refhv::bench {

// Fills samples, stamp cost, slope, handler part and exit counts. Throws what Sampling throws.
void measure_by_host(const Row& row, u64 n, Measurement& m);

} // namespace refhv::bench
