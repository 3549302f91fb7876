// SPDX-License-Identifier: MIT
#include "microbench/measure/host_clock.hpp"
#include "microbench/measure/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using front::Session;
using front::Verdict;
using Program = Sampling::Program;

namespace {

using Samples = std::vector<std::int64_t>;

double median(const Samples& samples) {
    return quantile(samples, 0.5);
}

// From the first stamp of a loop to its last.
double span(const client::RunResult& r) {
    return static_cast<double>(r.samples.back().end - r.samples.front().start);
}

bool any_disturbed(const client::RunResult& r) {
    return std::any_of(r.samples.begin(), r.samples.end(), [](const auto& s) { return s.disturbed(); });
}

// The two ways to the same number must agree. An emulator's ticks are exact but for the mean of unequal
// samples, of which the slope speaks, against their median; on hardware both move.
void compare_slope(Measurement& m) {
    const double p50 = m.summary->p50;
    const double tolerance =
        Session::get().info().counts_instructions ? std::max(1.0, 0.05 * p50) : std::max(20.0, 0.10 * p50);
    if (m.slope && std::abs(*m.slope - p50) > tolerance) {
        m.flags.emplace_back("slope_disagrees");
    }
}

void summarize_into(Measurement& m) {
    summarize_net(m);
    if (m.slope) {
        *m.slope /= m.batch;
    }
    compare_slope(m);
}

// Splits host-stamped samples. The control's cost is taken off where it arises: `lfence; rdtsc` of the end
// stamp, half of an empty pair rounded down, off the entry, the rest off the exit.
void split(Measurement& m, const client::RunResult& r, u64 exits, double empty_pair) {
    PartSamples raw;
    Samples whole;
    for (usize i = 0; i < r.samples.size(); ++i) {
        const auto& s = r.samples[i];
        const auto& first = r.stamps.at(i * exits);
        const auto& last = r.stamps.at(i * exits + exits - 1);
        if (s.disturbed()) {
            continue;
        }
        if (!(s.start <= first.first && first.first <= first.last && first.last <= last.last &&
              last.first <= last.last && last.last <= s.end) ||
            (exits == 2 && first.last > last.first)) {
            throw Invalid("the stamps of an exit are out of order");
        }
        const u64 between = exits == 2 ? last.first - first.last : 0;
        raw.exit.push_back(static_cast<std::int64_t>(first.first - s.start));
        raw.handler.push_back(static_cast<std::int64_t>(last.last - first.first - between));
        if (exits == 2) {
            raw.between.push_back(static_cast<std::int64_t>(between));
        }
        raw.entry.push_back(static_cast<std::int64_t>(s.end - last.last));
        whole.push_back(static_cast<std::int64_t>(s.end - s.start));
    }
    const double end_stamp = std::floor(empty_pair / 2);
    m.parts = {.exit = median(raw.exit) - (*m.stamp_cost - end_stamp),
               .handler = median(raw.handler),
               .between = exits == 2 ? std::optional(median(raw.between)) : std::nullopt,
               .entry = median(raw.entry) - end_stamp};
    m.stamped_p50 = median(whole) - *m.stamp_cost;
    m.part_samples = std::move(raw);
}

// The empty pair, per mode: what `split` needs to know. Measured once.
double empty_pair_cost(Mode mode, u64 n) {
    static std::map<Mode, double> known;
    if (!known.contains(mode)) {
        const auto all = rows();
        const Row& control = *all.front();
        Sampling sampling(control, mode, n);
        u64 disturbed = 0;
        static_cast<void>(sampling.loop(Program::control, n, Sampling::Keep::none));
        known[mode] = median(durations(sampling.loop(Program::control, n).samples, disturbed));
    }
    return known[mode];
}

// The slope of one set of four loops, net; none if anything disturbed it.
std::optional<double> net_slope(const client::RunResult& once, const client::RunResult& twice,
                                const client::RunResult& control, const client::RunResult& control_twice,
                                u64 n) {
    for (const auto* r : {&once, &twice, &control, &control_twice}) {
        if (any_disturbed(*r)) {
            return std::nullopt;
        }
    }
    return (span(twice) - span(once) - (span(control_twice) - span(control))) / static_cast<double>(n);
}

// An interrupt between two rounds of a process leaves no trace in the samples but is in the slope. So there:
// the median of several sets.
std::optional<double> slope_of_many(Sampling& sampling, u64 n, std::optional<double> first) {
    constexpr unsigned sets = 5;
    std::vector<double> slopes;
    if (first) {
        slopes.push_back(*first);
    }
    for (unsigned i = 1; i < sets; ++i) {
        const auto control = sampling.loop(Program::control, n, Sampling::Keep::ends);
        const auto control_twice = sampling.loop(Program::control, 2 * n, Sampling::Keep::ends);
        const auto once = sampling.loop(Program::operation, n, Sampling::Keep::ends);
        const auto twice = sampling.loop(Program::operation, 2 * n, Sampling::Keep::ends);
        if (const auto slope = net_slope(once, twice, control, control_twice, n)) {
            slopes.push_back(*slope);
        }
    }
    if (slopes.empty()) {
        return std::nullopt;
    }
    const auto middle = slopes.begin() + static_cast<std::ptrdiff_t>(slopes.size() / 2);
    std::nth_element(slopes.begin(), middle, slopes.end());
    return *middle;
}

// Of exits that KVM answers by itself there is its own count, in which those of interrupts are too. The proof
// is that there is at least one for each operation beyond what each round of the control takes, whose set-up
// may exit.
ExitCount counted_by_kvm(const Row& row, u64 n, const client::RunResult& control,
                         const client::RunResult& once) {
    const u64 counted = once.reply.entries;
    if (row.reason == Reason::none) {
        return {.reason = "", .expected = 0, .counted = 0};
    }
    if (counted == 0) {
        throw NotHere("this KVM counts no exits (Linux before 5.14), so nothing proves that there are any");
    }
    const u64 of_control = (control.reply.entries + n / 2) / n * n;
    const u64 due = of_control + n;
    if (counted < due) {
        const std::string what = std::to_string(n) + " operations, " + std::to_string(counted) +
                                 " exits by KVM's count, and " + std::to_string(control.reply.entries) +
                                 " without the operations";
        if (counted < of_control + n / 2) {
            throw NotHere("KVM lets it run without an exit: " + what);
        }
        throw Invalid("not each operation exits: " + what);
    }
    return {.reason = "counted by KVM", .expected = due, .counted = counted};
}

void measure_by_guest(const Row& row, Mode mode, u64 n, Measurement& m) {
    const bool exits = comes_to_us(row, mode);
    const double empty = exits ? empty_pair_cost(mode, n) : 0;
    Sampling sampling(row, mode, 2 * n);
    RateCounts counts;
    const auto counted = [&](ReasonCounts& into, Program program, u64 rounds, Sampling::Keep keep) {
        auto result = sampling.loop(program, rounds, keep);
        into = sampling.paging_exits();
        return result;
    };
    // Warm-up; touches all that the others will.
    static_cast<void>(counted(counts.warm_up, Program::operation, 2 * n, Sampling::Keep::none));
    const auto control = counted(counts.control, Program::control, n, Sampling::Keep::all);
    const auto control_twice = counted(counts.control_twice, Program::control, 2 * n, Sampling::Keep::ends);
    const auto once = counted(counts.once, Program::operation, n, Sampling::Keep::all);
    m.exits = sampling.last_count();
    const auto twice = counted(counts.twice, Program::operation, 2 * n, Sampling::Keep::ends);
    if (row.paging && mode != Mode::native) {
        m.exits_per_operation = exit_rates(counts, n * row.batch);
        expect_exits(row, mode, *m.exits_per_operation);
    }
    if (mode == Mode::kvm && !exits) {
        m.exits = counted_by_kvm(row, n, control, once);
    }
    u64 ignored = 0;
    m.stamp_cost = median(durations(control.samples, ignored));
    m.samples = durations(once.samples, m.disturbed);
    m.slope = net_slope(once, twice, control, control_twice, n);
    if (mode == Mode::user || mode == Mode::kvm) {
        m.slope = slope_of_many(sampling, n, m.slope);
    }
    if (exits) {
        try {
            split(m, sampling.loop(Program::operation, n, Sampling::Keep::all, true), exits_each(row), empty);
        } catch (const client::Refused& refused) {
            if (refused.outcome != abi::Outcome::unsupported) {
                throw;
            }
            m.reason = "not split: " + refused.text;
        }
    } else if (mode == Mode::kvm) {
        m.reason = "KVM answers it, or there is no exit: nothing to split";
    } else {
        m.reason = is_shadowed(mode) ? "exits of the guest's own paging are counted, not split"
                                     : "no exit, so nothing to split";
    }
    m.disturbed += sampling.discarded();
}

// METHOD: an A/A control must be 0 within its own interval, or the family is flagged.
void judge_control(const Row& row, Mode mode, Measurement& m) {
    static std::set<Mode> suspect;
    const bool control = std::string_view(row.name).starts_with("control.");
    if (control && (m.p50_interval->low > 0 || m.p50_interval->high < 0)) {
        suspect.insert(mode);
    }
    if (suspect.contains(mode)) {
        m.flags.emplace_back("control_not_zero");
    }
}

// On `self`, CPUID is known to exit to a hypervisor where there is one (SDM 3C 26.1.2; KVM and others
// intercept it on AMD too). Of other instructions nothing is known from outside.
std::optional<bool> exits_underneath(const Row& row, Mode mode) {
    if (mode != Mode::user) {
        return Session::get().info().emulated ? std::optional(false) : std::nullopt;
    }
    constexpr u32 hypervisor_bit = 1u << 31; // CPUID.01H:ECX
    const bool hypervisor = (front::cpuid(Session::get().hello(), 1, 0, 2) & hypervisor_bit) != 0;
    if (!hypervisor) {
        return false;
    }
    return row.reason == Reason::cpuid ? std::optional(true) : std::nullopt;
}

// Whose instructions a guest of that mode has; none where a row's vendor is no matter.
std::optional<abi::Vendor> vendor_in(Mode mode) {
    auto& session = Session::get();
    switch (mode) {
    case Mode::nested:
        return session.vendor();
    case Mode::kvm: { // the target is nobody's: by the CPU's signature, "Auth"enticAMD or "Hygo"nGenuine
        const u32 signature = front::cpuid(session.hello(), 0, 0, 1);
        return signature == 0x6874'7541 || signature == 0x6f67'7948 ? abi::Vendor::svm : abi::Vendor::vmx;
    }
    default:
        return std::nullopt;
    }
}

void attempt(const Row& row, Mode mode, const Gate& gate, Measurement& m) {
    auto& session = Session::get();
    const auto& hello = session.hello();
    if (!session.offers(mode)) {
        throw NotHere(session.info().name + " offers no mode " + client::name_of(mode) + ": " +
                      hello.fixed.note);
    }
    if (row.vendor && vendor_in(mode) && vendor_in(mode) != *row.vendor) {
        throw NotHere(std::string("this is ") + (*row.vendor == abi::Vendor::vmx ? "VMX's" : "SVM's") +
                      " only");
    }
    if (const std::string why = row.missing != nullptr ? row.missing(hello) : ""; !why.empty()) {
        throw NotHere(why);
    }
    if (const auto* proof = session.tick_proof(); proof != nullptr && !proof->wrong.empty()) {
        throw Invalid("a tick is not an instruction here: " + proof->wrong);
    }
    gate(row, mode);
    m.hypervisor_exit = exits_underneath(row, mode);
    if (row.by_itself) {
        row.by_itself(mode, m.n, m);
        return;
    }
    m.batch = row.batch;
    if (row.describe) {
        row.describe(mode, m);
    }
    if (row.most_rounds != 0) {
        m.n = std::min(m.n, row.most_rounds / 2);
    }
    if (mode == Mode::nested && row.clock != Clock::guest) {
        measure_by_host(row, m.n, m);
    } else {
        measure_by_guest(row, mode, m.n, m);
    }
    summarize_into(m);
    judge_control(row, mode, m);
}

} // namespace

void summarize_net(Measurement& m) {
    m.summary = summarize(m.samples, *m.stamp_cost, m.batch);
    const Interval raw = bootstrap_median(m.samples);
    m.p50_interval = {(raw.low - *m.stamp_cost) / m.batch, (raw.high - *m.stamp_cost) / m.batch};
}

void disqualify(Measurement& m, Verdict verdict, const std::string& reason) {
    m.verdict = verdict;
    m.reason = reason;
    m.summary.reset();
    m.p50_interval.reset();
    m.stamped_p50.reset();
    m.slope.reset();
    m.parts = {};
    m.part_samples.reset();
}

Measurement measure(const Row& row, Mode mode, u64 n, const Gate& gate) {
    Measurement m;
    m.n = n;
    try {
        attempt(row, mode, gate, m);
        m.verdict = Verdict::pass;
    } catch (const client::TargetMiss& miss) {
        disqualify(m, Verdict::miss, miss.what());
    } catch (const client::TargetUnusable& unusable) {
        disqualify(m, Verdict::miss, unusable.what());
    } catch (const NotHere& not_here) {
        disqualify(m, Verdict::skip, not_here.what());
    } catch (const Invalid& invalid) {
        disqualify(m, Verdict::invalid, invalid.what());
    } catch (const client::Refused& refused) {
        const bool lacking = refused.outcome == abi::Outcome::unsupported;
        disqualify(m, lacking ? Verdict::skip : Verdict::error,
                   lacking && !refused.text.empty() ? refused.text : refused.what());
    } catch (const std::exception& problem) {
        disqualify(m, Verdict::error, problem.what());
    }
    return m;
}

} // namespace refhv::bench
