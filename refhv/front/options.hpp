// SPDX-License-Identifier: MIT
// The command line of both tools: our own flags first, then the libraries'.
#pragma once

#include "refhv/front/departures.hpp"
#include "refhv/front/session.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

namespace refhv::front {

// Exit codes of both tools.
enum ExitCode {
    exit_ok = 0,
    exit_failed = 1, // a test, claim or benchmark
    exit_usage = 2,
    exit_miss = 3, // the target did not come up or died
};

// The caller's error, one line.
struct UsageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Options {
    std::string target;
    int events_fd = -1;
    std::string departures = Departures::default_path();
};

// Adds --target, --events-fd and --departures; what neither they nor the caller's own options take stays for
// the libraries.
void add_options(CLI::App& app, Options& options);

// Argument vector for the libraries' parsers, which eat what is theirs.
class Arguments {
  public:
    Arguments(const char* program, std::vector<std::string> rest);
    int* count() { return &count_; }
    char** values() { return pointers_.data(); }
    [[nodiscard]] bool
    has(std::string_view flag) const; // "--flag" or "--flag=..." but not "--flag=false", "=0"
    // Throws UsageError if a file that the libraries are to write cannot be made; they would end the process
    // in words and with a code of their own. Before they have taken what is theirs.
    void expect_writable() const;
    // Throws UsageError, naming the first, if an argument is left over.
    void expect_empty() const;

  private:
    std::vector<std::string> storage_;
    std::vector<char*> pointers_;
    int count_;
};

// --target=list: every target with "usable" or the reason why not.
void print_targets();

// Opens the session. Throws UsageError for a missing or unknown name, TargetUnusable for one that cannot run
// here.
void open_session(const Options& options);

// Sends the events "start" and "hello", and notes the emulator and refhv's revision in GoogleTest's XML;
// brings the target up. A target that stays away is told on stderr, and every case will be a MISS.
void greet(usize claims, usize benchmarks);

// Runs a tool's main: turns exceptions into one line on stderr and an exit code.
int guarded(const char* program, const std::function<int()>& body);

} // namespace refhv::front
