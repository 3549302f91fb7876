// SPDX-License-Identifier: MIT
// Measuring by the host's stamps around a whole run, or around instructions of its own.
#pragma once

#include "microbench/measure/measurement.hpp"

namespace refhv::bench {

// One run a sample, from RunReply::tsc_begin to tsc_end, with `operation` done beforehand; less the median
// with `control`, where there is one. Each run must end by the reason given and by no other exit. Throws
// Invalid.
void measure_runs(Measurement& m, client::Guest& guest, const std::function<void()>& operation,
                  abi::Reason ends, const std::function<void()>& control = {});

// Instructions of the host that drop translations, `host_batch` of them a sample. What the stamps cost comes
// from samples of twice as many. Throws Invalid on a VM-instruction error.
inline constexpr u32 host_batch = 64;
void measure_invalidation(Measurement& m, client::Guest& guest, abi::Invalidation kind);

} // namespace refhv::bench
