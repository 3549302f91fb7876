// SPDX-License-Identifier: MIT
// What came of one row in one mode.
#pragma once

#include "microbench/measure/row.hpp"
#include "microbench/measure/statistics.hpp"
#include "refhv/front/verdict.hpp"

#include <functional>
#include <map>
#include <optional>

namespace refhv::bench {

// Medians, net of stamp_cost. Their sum is Measurement::stamped_p50 where every sample is the same.
struct Parts {
    std::optional<double> exit;    // guest's stamp to the first host instruction
    std::optional<double> handler; // first to last host instruction; of both exits where there are two
    // Of operations with two exits: last host instruction of the first to first one of the second, which is
    // an entry, what the guest does, an exit.
    std::optional<double> between;
    std::optional<double> entry; // last host instruction to the guest's stamp
};

struct PartSamples {                                         // raw
    std::vector<std::int64_t> exit, handler, between, entry; // between may be empty
};

struct ExitCount {
    std::string reason; // neutral reason; empty: the operation must not exit
    u64 expected = 0;
    u64 counted = 0;
};

// Of one operation in modes nested, shadow and vtlb, by neutral reason; from runs of n and 2n, less the
// control's.
struct ExitRates {
    std::map<std::string, double> by_reason; // those that are not 0
    double total = 0;
};

// A row of family tlb: what was chased. Its summary, p50_interval and slope are per access.
struct ChaseFacts {
    u64 page_bytes;
    std::string layout; // front::Layout
    u64 lines;
    u64 accesses;                           // a sample
    std::string memory;                     // where the pages come from
    std::optional<u64> contiguous_groups{}; // PageMemory::contiguous_groups
    std::string walks_event;
    std::optional<double> walks_per_access{};
    std::string walks_missing{};            // why there is none
    std::optional<u64> nested_page_bytes{}; // under a guest in mode nested
};

// A row whose samples are how late something came: after its due time, or before it where negative.
struct Due {
    u64 ticks;         // of the TSC, from arming to the due time
    u64 step = 0;      // TSC ticks between moments at which it can fire; 0: not known
    std::string timer; // what it was
};

struct Measurement {
    front::Verdict verdict = front::Verdict::error;
    std::string reason;                // why there is no number or no part; empty: all there
    u64 n = 0;                         // samples asked for
    std::vector<std::int64_t> samples; // raw, in order, disturbed ones left out
    std::optional<double> stamp_cost;  // median of the control
    std::optional<Summary> summary;    // net
    std::optional<Interval> p50_interval;
    std::optional<double> stamped_p50; // net round trip of the run with host stamps
    std::optional<double> slope;       // net cost of one operation from n versus 2n
    Parts parts;
    std::optional<PartSamples> part_samples;
    std::optional<ExitCount> exits;
    std::optional<ExitRates> exits_per_operation;
    u32 batch = 1; // operations a sample; everything but the samples is of one
    u64 disturbed = 0;
    std::vector<std::string> flags;
    std::optional<bool> hypervisor_exit;
    std::optional<ChaseFacts> chase;
    std::optional<Due> due;
};

// A number was taken, but something it rests on does not hold.
struct Invalid : std::runtime_error {
    using std::runtime_error::runtime_error;
};
// This machine lacks what the row measures.
struct NotHere : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Asked once it is clear that the row means something here: do the claims hold? Throws Invalid, NotHere or
// TargetMiss.
using Gate = std::function<void(const Row&, abi::Mode)>;

// Measures. Every failure becomes a verdict with a reason; nothing is thrown.
[[nodiscard]] Measurement measure(const Row& row, abi::Mode mode, u64 n, const Gate& gate);

// Fills summary and p50_interval from samples, stamp cost and batch.
void summarize_net(Measurement& m);

// Takes the numbers away, keeps the reason, the raw samples and the exit counts.
void disqualify(Measurement& m, front::Verdict verdict, const std::string& reason);

} // namespace refhv::bench
