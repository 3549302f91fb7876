// SPDX-License-Identifier: MIT
// What a TLB miss costs: the sweep of docs/method.md, as a process of this machine sees it. One row per page
// size and number of lines; see docs/method.md, "The sweep".
#include "microbench/measure/measurement.hpp"
#include "refhv/front/guests/page_chase.hpp"
#include "refhv/front/guests/walk_counter.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <deque>
#include <sys/resource.h>

namespace refhv::bench {

using front::Layout;
using front::NotOffered;
using front::PageChase;
using front::PageMemory;
using front::PageSize;

namespace {

constexpr u64 accesses = 2048;          // a sample: long against its stamps, short against a timer's period
constexpr u64 samples_divisor = 4;      // a sample here is thousands of operations, so fewer do
constexpr u64 slope_every = 4;          // samples, one of twice the length
constexpr double agreement = 0.05;      // between the two methods
constexpr double least_tolerance = 0.5; // cycles
constexpr u64 most_warm_up = 16'384;    // accesses
constexpr u64 patience = 600'000'000;   // ns of CPU time

struct Taken {
    std::vector<std::int64_t> once, twice; // raw, of `accesses` and of twice as many
    u64 accesses = 0;                      // timed in all, disturbed samples too
    u64 disturbed = 0;
};

u64 context_switches() {
    rusage use{};
    getrusage(RUSAGE_THREAD, &use);
    return static_cast<u64>(use.ru_nvcsw + use.ru_nivcsw);
}

// That this thread has had, in ns: a busy machine gives it less of a second.
u64 cpu_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

// Samples until `wanted` are undisturbed. What ran on the CPU in between has used its caches and TLBs too:
// then there is a warm-up before the next one, short enough to fit a scheduler's slice. Throws Invalid.
Taken take(PageChase& chase, u32 lines, u64 wanted, u64 length) {
    const u64 whole = (2 * u64{lines} + 15) / 16 * 16;
    const u64 again = std::min(whole, most_warm_up);
    static_cast<void>(chase.sample(whole));
    Taken taken;
    const u64 end = cpu_time() + patience;
    u64 switches = context_switches();
    for (u64 i = 0; taken.once.size() < wanted && cpu_time() < end; ++i) {
        const bool twice = i % slope_every == slope_every - 1;
        const auto s = chase.sample(twice ? 2 * length : length);
        taken.accesses += twice ? 2 * length : length;
        if (!s.disturbed) {
            (twice ? taken.twice : taken.once).push_back(static_cast<std::int64_t>(s.end - s.start));
            continue;
        }
        ++taken.disturbed;
        if (const u64 now = context_switches(); now != switches) {
            switches = now;
            taken.accesses += again;
            static_cast<void>(chase.sample(again));
        }
    }
    if (taken.once.size() * 2 < wanted || taken.twice.empty()) {
        throw Invalid("only " + std::to_string(taken.once.size()) + " of " + std::to_string(wanted) +
                      " samples undisturbed in " + std::to_string(patience / 1'000'000) + " ms of CPU time");
    }
    return taken;
}

void expect_sound(const PageMemory& memory, const PageChase& chase) {
    if (const std::string fault = memory.fault(); !fault.empty()) {
        throw Invalid("the pages have not the size asked for: " + fault);
    }
    if (const std::string fault = chase.fault(); !fault.empty()) {
        throw Invalid("the chase does not visit every line once: " + fault);
    }
}

// Everything per access, net of the stamps.
void summarize_accesses(Measurement& m, const std::vector<std::int64_t>& twice) {
    const double cost = *m.stamp_cost;
    m.summary = summarize(m.samples, cost, accesses);
    const Interval raw = bootstrap_median(m.samples);
    m.p50_interval = {(raw.low - cost) / accesses, (raw.high - cost) / accesses};
    m.slope = (quantile(twice, 0.5) - quantile(m.samples, 0.5)) / accesses;
    if (std::abs(*m.slope - m.summary->p50) > std::max(least_tolerance, agreement * m.summary->p50)) {
        m.flags.emplace_back("slope_disagrees");
    }
}

void sweep(PageSize size, Layout layout, u32 lines, u64 asked, Measurement& m) try {
    const front::Pinned pinned;
    PageMemory& memory = front::sweep_memory(size);
    PageChase chase(memory, layout, lines);
    expect_sound(memory, chase);
    constexpr u32 amd = 0x6874'7541; // "Auth"
    front::WalkCounter counter(front::cpuid(front::Session::get().hello(), 0, 0, 1) == amd);
    m.n = std::max<u64>(slope_every, asked / samples_divisor);
    m.stamp_cost = quantile(take(chase, lines, m.n, 0).once, 0.5);
    counter.start();
    const Taken taken = take(chase, lines, m.n, accesses);
    const auto walks = counter.stop();
    expect_sound(memory, chase);
    m.samples = taken.once;
    m.disturbed = taken.disturbed;
    m.chase = ChaseFacts{.page_bytes = bytes_of(size),
                         .layout = layout == Layout::spread ? "spread" : "inside",
                         .lines = lines,
                         .accesses = accesses,
                         .memory = memory.source(),
                         .walks_event = counter.event()};
    if (size == PageSize::kb4) {
        m.chase->contiguous_groups = memory.contiguous_groups();
    }
    if (walks) {
        const u64 warm_up = 2 * u64{lines};
        m.chase->walks_per_access =
            static_cast<double>(*walks) / static_cast<double>(taken.accesses + warm_up);
    } else {
        m.chase->walks_missing =
            counter.missing().empty() ? "the counter shared its hardware with others" : counter.missing();
    }
    m.reason = "no exit, so nothing to split";
    summarize_accesses(m, taken.twice);
} catch (const NotOffered& none) {
    throw NotHere(none.what());
}

void declare(PageSize size, Layout layout, u32 lines) {
    static std::deque<std::string> names; // a row keeps a pointer to its own
    const std::string page = front::name_of(size);
    names.push_back("tlb." + page + (layout == Layout::inside ? "_inside." : ".") + std::to_string(lines));
    Row row{.name = names.back().c_str()};
    row.modes = {abi::Mode::user};
    row.rests_on = {"UserStamps.are_ordered_and_complete", "Tlb.chase_visits_every_page_once",
                    "Tlb.chase_uses_cache_sets_evenly", "Tlb.pages_of_" + page + "_have_the_size_asked_for"};
    row.by_itself = [=](abi::Mode, u64 asked, Measurement& m) { sweep(size, layout, lines, asked, m); };
    const Declare declared{std::move(row)};
}

const bool declared = [] {
    for (const PageSize size : front::page_sizes) {
        for (const u32 lines : front::sweep_sizes()) {
            declare(size, Layout::spread, lines);
        }
        for (const u32 lines : front::sweep_sizes()) {
            declare(size, Layout::inside, lines);
        }
    }
    return true;
}();

} // namespace

} // namespace refhv::bench
