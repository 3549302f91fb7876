// SPDX-License-Identifier: MIT
// refhv-microbench: the claims that the selected rows rest on, through GoogleTest; then the rows, through
// Google Benchmark.
#include "microbench/measure/record.hpp"
#include "microbench/measure/reporter.hpp"
#include "refhv/front/doctor/doctor.hpp"
#include "refhv/front/doctor/environment.hpp"
#include "refhv/front/events.hpp"
#include "refhv/front/file.hpp"
#include "refhv/front/options.hpp"
#include "refhv/front/signals.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

namespace refhv::bench {

namespace {

using front::Session;
using front::UsageError;
using front::Verdict;
using front::Verdicts;

struct BenchOptions : front::Options {
    std::string record;
    std::string claims = "needed";
    u64 samples = 0;
    bool values = false; // a file of Google Benchmark's JSON was asked for
};

constexpr u64 emulated_samples = 256;
constexpr u64 hardware_samples = 1000;
constexpr u64 most_samples = 2000; // twice as many pages are within reach of a guest's page tables

// Every claim that a row names must exist, or its row would be INVALID for ever.
void check_claim_names() {
    const auto known = front::claims_selected_by("*");
    for (const Row* row : rows()) {
        for (const abi::Mode mode : modes_of(*row)) {
            for (const std::string& name : claims_of(*row, mode)) {
                if (std::find(known.begin(), known.end(), name) == known.end()) {
                    throw std::logic_error(full_name(*row, mode) +
                                           " rests on a claim that does not exist: " + name);
                }
            }
        }
    }
}

// What the run needs, cut with what the user let through.
std::vector<std::string> claims_to_run(const BenchOptions& options, const std::vector<Result>& selected) {
    auto claims = front::claims_selected_by(::testing::GTEST_FLAG(filter));
    if (options.claims == "needed") {
        std::set<std::string> needed;
        const auto& hello = Session::get().hello();
        for (const Result& r : selected) {
            if (r.row->missing != nullptr && !r.row->missing(hello).empty()) {
                continue; // it will be a SKIP
            }
            needed.merge(std::set<std::string>([&] {
                const auto names = claims_of(*r.row, r.mode);
                return std::set<std::string>(names.begin(), names.end());
            }()));
        }
        std::erase_if(claims, [&](const std::string& name) { return !needed.contains(name); });
    }
    return claims;
}

// Keeps the claims' verdicts while there is no row yet, at most once a second: a record holds all of them
// each time.
class KeepClaims : public ::testing::EmptyTestEventListener {
  public:
    explicit KeepClaims(std::function<void()> keep) : keep_(std::move(keep)) {}

    void OnTestEnd(const ::testing::TestInfo& /*info*/) override {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::seconds{1}) {
            return;
        }
        last_ = now;
        try {
            keep_();
        } catch (const UsageError&) {
            // GoogleTest would take it for a failed claim; the first row, whose turn comes right after these,
            // says it.
            keep_ = [] {};
        }
    }

  private:
    std::function<void()> keep_;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// The claims' part. GoogleTest's own progress would drown the table; failures and totals are told here
// instead.
void run_claims(const std::vector<std::string>& claims, const std::function<void()>& keep) {
    std::string filter;
    for (const std::string& name : claims) {
        filter += (filter.empty() ? "" : ":") + name;
    }
    if (claims.empty()) {
        return;
    }
    ::testing::GTEST_FLAG(filter) = filter;
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    auto& verdicts = Verdicts::get();
    listeners.Append(new KeepClaims(keep)); // GoogleTest deletes it
    const int failed = RUN_ALL_TESTS();
    std::map<std::string, int> totals;
    for (const auto& claim : verdicts.all()) {
        ++totals[front::name_of(claim.verdict)];
        if (claim.verdict != Verdict::pass && claim.verdict != Verdict::skip) {
            std::cout << "claim " << claim.name << ' ' << front::name_of(claim.verdict) << " ("
                      << claim.section << (verdicts.is_expected(claim) ? "), a known departure: " : "): ")
                      << claim.detail << '\n';
        }
    }
    std::cout << "claims:";
    for (const auto& [verdict, count] : totals) {
        std::cout << ' ' << count << ' ' << verdict;
    }
    std::cout << '\n';
    if (verdicts.failed_elsewhere(failed)) {
        throw std::logic_error("GoogleTest reports a failure outside of the claims");
    }
}

bool rests_on_a_failed_claim(const Row& row, abi::Mode mode) {
    const auto names = claims_of(row, mode);
    return std::any_of(names.begin(), names.end(), [](const std::string& name) {
        const auto* const claim = Verdicts::get().find(name);
        return claim != nullptr && claim->verdict != Verdict::pass && claim->verdict != Verdict::skip;
    });
}

int verdict_of_all() {
    const auto any = [](std::initializer_list<Verdict> which) {
        return std::any_of(Results::get().all().begin(), Results::get().all().end(), [&](const Result& r) {
            return std::find(which.begin(), which.end(), r.measurement.verdict) != which.end();
        });
    };
    const int claims = Verdicts::get().exit_code();
    if (claims == front::exit_miss || any({Verdict::miss})) {
        return front::exit_miss;
    }
    // A row that is INVALID because of a claim is the claim's story.
    const bool invalid =
        std::any_of(Results::get().all().begin(), Results::get().all().end(), [](const Result& r) {
            return r.measurement.verdict == Verdict::invalid && !rests_on_a_failed_claim(*r.row, r.mode);
        });
    return claims != front::exit_ok || invalid || any({Verdict::error}) ? front::exit_failed : front::exit_ok;
}

int measure_all(const BenchOptions& options) {
    const auto started = std::chrono::system_clock::now();
    if (options.events_fd >= 0) {
        front::Events::get().open(options.events_fd);
    }
    if (!options.record.empty()) {
        front::try_to_write(options.record); // now, not after the work is done
    } else {
        front::say_on_signal("no --record was asked for, so nothing is kept");
    }
    front::open_session(options);
    const auto& info = Session::get().info();
    const auto machine = front::doctor::Host::here();
    const auto doctor = front::doctor::record(front::doctor::examine(machine));
    const auto facts = front::doctor::environment(machine, front::doctor::measuring_cpu(machine, info.kind));
    const std::vector<abi::Mode> modes =
        info.kind == "process" ? std::vector{abi::Mode::user}
        : info.kind == "kvm"
            ? std::vector{abi::Mode::kvm}
            : std::vector{abi::Mode::nested, abi::Mode::shadow, abi::Mode::vtlb, abi::Mode::native};
    if (!info.settled) {
        static_cast<void>(Session::get().hello());
    }
    const u64 samples = options.samples != 0 ? options.samples
                        : info.emulated      ? emulated_samples
                                             : hardware_samples;
    register_rows(modes, samples);
    std::vector<Result> selected;
    try {
        selected = selected_rows(modes, benchmark::GetBenchmarkFilter());
    } catch (const std::regex_error&) {
        throw UsageError("--benchmark_filter=" + benchmark::GetBenchmarkFilter() +
                         " is no regular expression");
    }
    if (selected.empty()) {
        throw UsageError("--benchmark_filter=" + benchmark::GetBenchmarkFilter() + " selects no row of " +
                         info.name);
    }
    const auto claims = claims_to_run(options, selected);
    const auto keep = [&] {
        if (!options.record.empty()) {
            write_record(options.record, make_record(started, doctor, facts));
            front::say_on_signal("what was measured before is kept in " + options.record);
        }
    };
    front::greet(claims.size(), selected.size());
    run_claims(claims, keep);
    keep(); // the claims, even if no row follows
    TableReporter table(keep);
    ValueReporter values; // Google Benchmark wants none where no file was asked for
    benchmark::RunSpecifiedBenchmarks(&table, options.values ? &values : nullptr);
    const int code = verdict_of_all();
    Session::get().close();
    front::Events::get().send(nlohmann::ordered_json{{"event", "end"}});
    return code;
}

} // namespace

static int run(int argc, char** argv) {
    CLI::App app{"Measures what virtualization costs on one target."};
    app.footer("Everything else goes to Google Benchmark (--benchmark_list_tests, --benchmark_filter=REGEX,\n"
               "--benchmark_out=FILE.json) and GoogleTest (--gtest_list_tests, --gtest_output=xml:FILE).\n"
               "Exit codes: 0 all well, 1 a claim failed or a number is invalid, 2 usage, 3 the target did "
               "not come up\n"
               "or died.");
    BenchOptions options;
    front::add_options(app, options);
    app.add_option("--record", options.record, "file for the result record (docs/record.schema.json)");
    app.add_option("--claims", options.claims,
                   "claims to run first: those that the selected rows need, or all")
        ->check(CLI::IsMember({"needed", "all"}))
        ->capture_default_str();
    app.add_option("--samples", options.samples, "samples a row; 256 on emulators, 1000 on hardware")
        ->check(CLI::Range(u64{1}, most_samples));
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        throw UsageError(error.what());
    }
    auto remaining = app.remaining();
    // Google Benchmark's own idea of "long enough" has no meaning here: a row is measured once.
    // (Iterations(1) would do the same, but becomes part of the row's name.)
    remaining.insert(remaining.begin(), "--benchmark_min_time=" REFHV_ONE_ITERATION);
    front::Arguments rest(argv[0], remaining);
    const bool list_tests = rest.has("--gtest_list_tests");
    const bool list_rows = rest.has("--benchmark_list_tests");
    rest.expect_writable();
    options.values = rest.has("--benchmark_out") && !rest.has("--benchmark_out_format=console") &&
                     !rest.has("--benchmark_out_format=csv");
    ::testing::InitGoogleTest(rest.count(), rest.values());
    benchmark::Initialize(rest.count(), rest.values());
    rest.expect_empty();
    check_claim_names();
    if (list_tests) {
        return RUN_ALL_TESTS();
    }
    if (list_rows) {
        register_rows({}, 0);
        benchmark::RunSpecifiedBenchmarks();
        return front::exit_ok;
    }
    if (options.target == "list") {
        front::print_targets();
        return front::exit_ok;
    }
    return measure_all(options);
}

} // namespace refhv::bench

int main(int argc, char** argv) {
    return refhv::front::guarded("refhv-microbench", [&] { return refhv::bench::run(argc, argv); });
}
