// SPDX-License-Identifier: MIT
#include "microbench/measure/reporter.hpp"

#include "microbench/measure/disturbances.hpp"
#include "refhv/front/events.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <regex>

namespace refhv::bench {

using front::Session;
using front::Verdict;

namespace {

std::string cell(const std::optional<double>& value) {
    if (!value) {
        return "-";
    }
    char text[32];
    std::snprintf(text, sizeof text,
                  *value == static_cast<double>(static_cast<long long>(*value)) ? "%.0f"
                  : *value < 1                                                  ? "%.3f"
                                                                                : "%.1f",
                  *value);
    return text;
}

std::string interval(const std::optional<Interval>& i) {
    return !i || i->low == i->high ? "" : "[" + cell(i->low) + ", " + cell(i->high) + "]";
}

std::optional<double> p50(const Measurement& m) {
    return m.summary ? std::optional(m.summary->p50) : std::nullopt;
}

nlohmann::ordered_json number(const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

void send_event(const Result& result) {
    const Measurement& m = result.measurement;
    front::Events::get().send(nlohmann::ordered_json{
        {"event", "benchmark"},
        {"name", result.name()},
        {"verdict", front::name_of(m.verdict)},
        {"unit", Session::get().info().unit},
        {"p50", number(p50(m))},
        {"exit", number(m.parts.exit)},
        {"handler", number(m.parts.handler)},
        {"entry", number(m.parts.entry)},
        {"reason", m.reason.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(m.reason)}});
}

// A number whose claim does not hold is never printed.
void gate(const Row& row, abi::Mode mode) {
    for (const std::string& name : claims_of(row, mode)) {
        const front::ClaimResult* const claim = front::Verdicts::get().find(name);
        if (claim == nullptr) {
            throw Invalid("claim " + name + " was not run");
        }
        switch (claim->verdict) {
        case Verdict::pass:
            break;
        case Verdict::skip:
            throw NotHere("claim " + name + " SKIP: " + claim->detail);
        case Verdict::miss:
            throw client::TargetMiss("claim " + name + " MISS: " + claim->detail);
        default:
            throw Invalid("claim " + name + " " + front::name_of(claim->verdict) + ": " + claim->detail);
        }
    }
}

void run(benchmark::State& state, const Row& row, abi::Mode mode, u64 samples) {
    while (state.KeepRunningBatch(state.max_iterations)) {
        const auto before = Watch::get().now();
        Result measured{&row, mode, measure(row, mode, samples, gate)};
        measured.disturbances = Watch::get().since(before);
        const Result& result = Results::get().put(std::move(measured));
        send_event(result);
        const Measurement& m = result.measurement;
        if (m.verdict != Verdict::pass) {
            state.SkipWithError((std::string(front::name_of(m.verdict)) + ": " + m.reason).c_str());
            return;
        }
        const std::pair<const char*, std::optional<double>> counters[] = {
            {"p50", p50(m)}, {"exit", m.parts.exit}, {"handler", m.parts.handler}, {"entry", m.parts.entry}};
        for (const auto& [name, value] : counters) {
            if (value) {
                state.counters[name] = *value;
            }
        }
    }
}

bool wanted(const std::vector<abi::Mode>& only, abi::Mode mode) {
    return only.empty() || std::find(only.begin(), only.end(), mode) != only.end();
}

} // namespace

void register_rows([[maybe_unused]] const std::vector<abi::Mode>& only, u64 samples) {
    for (const Row* row : rows()) {
        for (const abi::Mode mode : modes_of(*row)) {
            const auto body = [row, mode, samples](benchmark::State& state) {
                run(state, *row, mode, samples);
            };
#ifdef __clang_analyzer__ // it takes what Google Benchmark keeps for a leak
            static_cast<void>(body);
#else
            if (wanted(only, mode)) {
                benchmark::RegisterBenchmark(full_name(*row, mode).c_str(), body);
            }
#endif
        }
    }
}

std::vector<Result> selected_rows(const std::vector<abi::Mode>& only, const std::string& filter) {
    // As Google Benchmark does it: POSIX extended, searched; "all" and "" are everything; a leading '-'
    // negates.
    const bool negative = filter.starts_with('-');
    std::string pattern = negative ? filter.substr(1) : filter;
    if (pattern.empty() || pattern == "all") {
        pattern = ".";
    }
    const std::regex expression(pattern, std::regex::extended);
    std::vector<Result> out;
    for (const Row* row : rows()) {
        for (const abi::Mode mode : modes_of(*row)) {
            if (wanted(only, mode) && std::regex_search(full_name(*row, mode), expression) != negative) {
                out.push_back({row, mode, {}});
            }
        }
    }
    return out;
}

bool TableReporter::ReportContext(const Context& context) {
    name_width_ = static_cast<int>(std::max<std::size_t>(context.name_field_width, 9));
    const auto& info = Session::get().info();
    std::printf("\n%s: medians in %s%s, net of the stamps\n", info.name.c_str(), info.unit.c_str(),
                info.counts_instructions ? " of an emulator (instructions)"
                : info.emulated          ? " of an emulator (its own time, not the hardware's)"
                                         : " of the TSC");
    std::printf("%-*s %-7s %9s %9s %9s %9s %9s\n", name_width_, "benchmark", "verdict", "p50", "exit",
                "handler", "entry", "slope");
    return true;
}

void TableReporter::ReportRuns(const std::vector<Run>& runs) {
    for (const Run& run : runs) {
        const Result* const result = Results::get().find(run.benchmark_name());
        if (result == nullptr || run.run_type == Run::RT_Aggregate) {
            continue;
        }
        const Measurement& m = result->measurement;
        std::string remark = interval(m.p50_interval);
        if (m.exits_per_operation) {
            remark += " " + cell(m.exits_per_operation->total) + " exits";
        }
        for (const std::string& flag : m.flags) {
            remark += " " + flag;
        }
        if (m.disturbed != 0) {
            remark += " " + std::to_string(m.disturbed) + " disturbed";
        }
        if (m.verdict != Verdict::pass) {
            remark += " " + m.reason;
        }
        std::printf("%-*s %-7s %9s %9s %9s %9s %9s %s\n", name_width_, result->name().c_str(),
                    front::name_of(m.verdict), cell(p50(m)).c_str(), cell(m.parts.exit).c_str(),
                    cell(m.parts.handler).c_str(), cell(m.parts.entry).c_str(), cell(m.slope).c_str(),
                    remark.c_str());
        std::fflush(stdout);
    }
    keep_();
}

namespace {

// How long the target's unit is; nothing where it is no time, or nobody knows.
std::optional<double> nanoseconds_a_unit() {
    const auto& session = Session::get();
    const auto* const greeting = session.greeting();
    if (session.info().emulated || greeting == nullptr || greeting->fixed.tsc_hz == 0) {
        return std::nullopt;
    }
    return 1e9 / static_cast<double>(greeting->fixed.tsc_hz);
}

} // namespace

bool ValueReporter::ReportContext(const Context& context) {
    const auto& info = Session::get().info();
    benchmark::AddCustomContext("target", info.name);
    benchmark::AddCustomContext("unit", nanoseconds_a_unit() ? "ns" : info.unit);
    benchmark::AddCustomContext("real_time", "p50 of one operation, net of the stamps, in this unit whatever "
                                             "time_unit says; not how long the measuring took");
    return JSONReporter::ReportContext(context);
}

void ValueReporter::ReportRuns(const std::vector<Run>& runs) {
    std::vector<Run> measured;
    for (Run run : runs) {
        const Result* const result = Results::get().find(run.benchmark_name());
        const auto value = result != nullptr ? p50(result->measurement) : std::nullopt;
        if (!value || run.run_type == Run::RT_Aggregate) {
            continue;
        }
        run.time_unit = benchmark::kNanosecond;
        run.real_accumulated_time =
            *value * nanoseconds_a_unit().value_or(1) * 1e-9 * static_cast<double>(run.iterations);
        run.cpu_accumulated_time = run.real_accumulated_time;
        measured.push_back(run);
    }
    if (!measured.empty()) {
        JSONReporter::ReportRuns(measured);
    }
}

} // namespace refhv::bench
