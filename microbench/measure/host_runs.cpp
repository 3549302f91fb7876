// SPDX-License-Identifier: MIT
#include "microbench/measure/host_runs.hpp"

#include "refhv/front/session.hpp"

#include <algorithm>
#include <cmath>

namespace refhv::bench {

using Samples = std::vector<std::int64_t>;

namespace {

constexpr u64 host_samples = 32; // each is a round trip over a serial line

Samples timed_runs(client::Guest& guest, const std::function<void()>& before, abi::Reason ends) {
    Samples samples;
    for (u64 i = 0; i <= host_samples; ++i) {
        before();
        const auto r = guest.run({});
        const auto reason = static_cast<abi::Reason>(r.reply.exit.reason);
        if (r.outcome != abi::Outcome::exited || reason != ends || r.reply.entries != 1) {
            throw Invalid(std::string("a run ended by ") + client::name_of(reason) + " after " +
                          std::to_string(r.reply.entries) + " entries, not by " + client::name_of(ends) +
                          " after one");
        }
        if (r.exceptions.count != 0 || r.reply.host_changed != 0) {
            throw Invalid("the guest took an exception, or host state changed");
        }
        if (i != 0) { // the first warms up
            samples.push_back(static_cast<std::int64_t>(r.reply.tsc_end - r.reply.tsc_begin));
        }
    }
    return samples;
}

Samples timed_invalidations(client::Guest& guest, abi::Invalidation kind, u32 repeats) {
    Samples samples;
    for (u64 i = 0; i < host_samples; ++i) {
        const auto r = guest.invalidate(kind, client::layout::arena, repeats);
        if (r.error != 0) {
            throw Invalid("VM-instruction error " + std::to_string(r.error));
        }
        samples.push_back(static_cast<std::int64_t>(r.tsc_end - r.tsc_begin));
    }
    return samples;
}

} // namespace

void measure_runs(Measurement& m, client::Guest& guest, const std::function<void()>& operation,
                  abi::Reason ends, const std::function<void()>& control) {
    m.n = host_samples;
    m.stamp_cost = control ? quantile(timed_runs(guest, control, ends), 0.5) : 0;
    m.samples = timed_runs(guest, operation, ends);
    m.reason = "whole runs, timed by the host: there is no part and no slope";
    summarize_net(m);
}

void measure_invalidation(Measurement& m, client::Guest& guest, abi::Invalidation kind) {
    m.n = host_samples;
    m.batch = host_batch;
    m.samples = timed_invalidations(guest, kind, host_batch);
    const double once = quantile(m.samples, 0.5);
    const double twice = quantile(timed_invalidations(guest, kind, 2 * host_batch), 0.5);
    m.stamp_cost = std::max(0.0, 2 * once - twice);
    m.slope = (twice - once) / host_batch;
    m.reason = "instructions of the host: nothing exits";
    summarize_net(m);
}

} // namespace refhv::bench
