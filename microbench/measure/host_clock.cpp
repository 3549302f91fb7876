// SPDX-License-Identifier: MIT
#include "microbench/measure/host_clock.hpp"

#include "microbench/measure/sampling.hpp"

#include <algorithm>

namespace refhv::bench {

using abi::Mode;
using Program = Sampling::Program;

namespace {

using Samples = std::vector<std::int64_t>;

double median(const Samples& samples) {
    return quantile(samples, 0.5);
}

// Durations between the first host instructions of successive exits.
Samples host_durations(const client::RunResult& r) {
    Samples out;
    for (usize i = 1; i < r.stamps.size(); ++i) {
        out.push_back(static_cast<std::int64_t>(r.stamps[i].first - r.stamps[i - 1].first));
    }
    return out;
}

// What the two host stamps of an exit cost: round trip of CPUID with them less the round trip without.
double host_stamp_cost(u64 n) {
    static std::optional<double> known;
    if (!known) {
        const auto all = rows();
        const auto cpuid = std::find_if(all.begin(), all.end(), [](const Row* row) {
            return std::string_view(row->name) == "exit.cpuid";
        });
        Sampling sampling(**cpuid, Mode::nested, n);
        u64 disturbed = 0;
        static_cast<void>(sampling.loop(Program::operation, n, Sampling::Keep::none));
        const double without = median(durations(sampling.loop(Program::operation, n).samples, disturbed));
        const double with = median(
            durations(sampling.loop(Program::operation, n, Sampling::Keep::all, true).samples, disturbed));
        known = with - without;
    }
    return *known;
}

} // namespace

void measure_by_host(const Row& row, u64 n, Measurement& m) {
    m.stamp_cost = host_stamp_cost(n);
    Sampling sampling(row, Mode::nested, 2 * n);
    static_cast<void>(sampling.exits(n + 1)); // warm-up
    const auto once = sampling.exits(n + 1);
    m.exits = sampling.last_count();
    const auto twice = sampling.exits(2 * n + 1);
    // The stamp of the guest's own end, where there is one, stands behind those of the exits.
    const auto keep = [](client::RunResult r, u64 count) {
        if (r.stamps.size() < count) {
            throw Invalid(std::to_string(r.stamps.size()) + " host stamps for " + std::to_string(count) +
                          " exits");
        }
        r.stamps.resize(count);
        return r;
    };
    const auto once_kept = keep(once, n + 1);
    m.samples = host_durations(once_kept);
    const auto total = [](const client::RunResult& r) {
        return static_cast<double>(r.stamps.back().first - r.stamps.front().first);
    };
    m.slope = (total(keep(twice, 2 * n + 1)) - total(once_kept)) / static_cast<double>(n) - *m.stamp_cost;
    PartSamples raw;
    for (usize i = 0; i < n; ++i) {
        raw.handler.push_back(
            static_cast<std::int64_t>(once_kept.stamps[i].last - once_kept.stamps[i].first));
    }
    m.parts.handler = median(raw.handler);
    m.part_samples = std::move(raw);
    m.reason = "timed by the host: exit and entry cannot be told apart";
    m.disturbed = sampling.discarded();
}

} // namespace refhv::bench
