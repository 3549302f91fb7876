// SPDX-License-Identifier: MIT
#include "refhv/front/options.hpp"

#include "refhv/front/events.hpp"
#include "refhv/front/file.hpp"
#include "refhv/front/models.hpp"
#include "refhv/front/revision.hpp"
#include "refhv/front/signals.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <cstdio>
#include <gtest/gtest.h>
#include <iostream>
#include <nlohmann/json.hpp>

namespace refhv::front {

void add_options(CLI::App& app, Options& options) {
    app.allow_extras();
    app.add_option("--target", options.target,
                   "target to run on: a name, or what to run on in one of the forms of docs/targets.md; "
                   "\"list\" prints them all");
    app.add_option("--events-fd", options.events_fd, "file descriptor for progress, one JSON object a line");
    app.add_option(
        "--departures", options.departures,
        "list of known departures, which are no failures; default: departures.json beside this program");
}

Arguments::Arguments(const char* program, std::vector<std::string> rest) : storage_(std::move(rest)) {
    storage_.insert(storage_.begin(), program);
    for (std::string& s : storage_) {
        pointers_.push_back(s.data());
    }
    count_ = static_cast<int>(pointers_.size());
    pointers_.push_back(nullptr);
}

bool Arguments::has(std::string_view flag) const {
    return std::any_of(storage_.begin() + 1, storage_.end(), [&](std::string_view s) {
        if (!s.starts_with(flag)) {
            return false;
        }
        s.remove_prefix(flag.size());
        return s.empty() || (s[0] == '=' && s != "=false" && s != "=0");
    });
}

void Arguments::expect_writable() const {
    for (const std::string_view flag : {"--benchmark_out=", "--gtest_output=xml:", "--gtest_output=json:"}) {
        for (const std::string& argument : storage_) {
            const std::string path = argument.starts_with(flag) ? argument.substr(flag.size()) : "";
            if (!path.empty() && !path.ends_with('/')) { // GoogleTest makes directories
                try_to_write(path);
            }
        }
    }
}

void Arguments::expect_empty() const {
    if (count_ > 1) {
        throw UsageError(std::string("unknown argument \"") + pointers_[1] +
                         "\"; --help lists what there is");
    }
}

void print_targets() {
    for (const auto& entry : client::list_targets()) {
        std::printf("%-16s %-10s %s%s%s\n", entry.info.name.c_str(),
                    entry.unusable.empty() ? "usable" : "not usable", entry.info.description.c_str(),
                    entry.unusable.empty() ? "" : ": ", entry.unusable.c_str());
    }
    for (const auto& form : client::list_forms()) {
        std::printf("%s form %s\n", form.usage.c_str(), form.description.c_str());
    }
}

void open_session(const Options& options) {
    if (options.target.empty()) {
        throw UsageError("--target is missing; --target=list shows what there is");
    }
    try {
        Session::get().open(options.target);
    } catch (const client::BadTargetName& bad) {
        throw UsageError(std::string(bad.what()) + "; --target=list shows what there is");
    }
    Verdicts::get().expect(Departures(options.departures, Session::get().info()));
}

void greet(usize claims, usize benchmarks) {
    auto& session = Session::get();
    auto& events = Events::get();
    const client::Emulator& emulator = session.info().emulator;
    events.send(nlohmann::ordered_json{{"event", "start"},
                                       {"target", session.info().name},
                                       {"claims", claims},
                                       {"benchmarks", benchmarks},
                                       {"emulator", emulator_record(emulator)},
                                       {"revision", revision()}});
    // Outside of a test: attributes of the whole run.
    ::testing::Test::RecordProperty("target", session.info().name);
    ::testing::Test::RecordProperty("emulator", emulator.name);
    ::testing::Test::RecordProperty("emulator_version", emulator.version);
    ::testing::Test::RecordProperty("revision", revision());
    try {
        const std::string machine = describe_machine(session.hello());
        events.send(nlohmann::ordered_json{
            {"event", "hello"}, {"seconds", session.seconds_to_hello()}, {"machine", machine}});
        std::cout << session.info().name << (session.info().emulated ? " (emulated)" : "") << ": " << machine
                  << ", hello after " << session.seconds_to_hello() << " s\n";
    } catch (const client::TargetMiss& miss) {
        std::cerr << session.info().name << " did not come up: " << miss.what() << '\n';
    }
}

int guarded(const char* program, const std::function<int()>& body) {
    const auto complain = [&](const std::exception& problem, int code) {
        std::cerr << program << ": " << problem.what() << '\n';
        return code;
    };
    end_on_signals(program);
    try {
        return body();
    } catch (const UsageError& problem) {
        return complain(problem, exit_usage);
    } catch (const client::TargetUnusable& problem) {
        return complain(problem, exit_miss);
    } catch (const client::TargetMiss& problem) {
        return complain(problem, exit_miss);
    } catch (const std::exception& problem) {
        return complain(problem, exit_failed);
    }
}

} // namespace refhv::front
