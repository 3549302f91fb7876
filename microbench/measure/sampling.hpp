// SPDX-License-Identifier: MIT
// Runs of one row's guest, each checked: a run whose exits are not exactly the declared ones throws Invalid.
#pragma once

#include "microbench/measure/exit_rates.hpp"

namespace refhv::bench {

// Whether each operation is an exit that the row's policy sees. KVM hands some to user space, and answers the
// rest itself.
[[nodiscard]] bool comes_to_us(const Row& row, abi::Mode mode);

class Sampling {
  public:
    // Builds the guest; room for `most` rounds. Throws NotHere if the CPU cannot intercept what the row
    // needs.
    Sampling(const Row& row, abi::Mode mode, u64 most);

    enum class Program {
        operation,
        control,
    };
    enum class Keep {
        none, // of a warm-up; serial lines are slow
        ends, // the first and the last, for the slope; in mode user all, since each may have been disturbed
        all,
    };
    // A sample loop of `rounds` rounds.
    client::RunResult loop(Program program, u64 rounds, Keep keep = Keep::all, bool host_stamps = false);
    // `exits` exits timed by the host alone (Clock::host and Clock::host_unprompted); as many stamps come
    // back.
    client::RunResult exits(u64 exits);

    // Whole runs that were thrown away because an interrupt or NMI fell into them, in samples.
    [[nodiscard]] u64 discarded() const { return discarded_; }
    [[nodiscard]] const ExitCount& last_count() const { return count_; }
    // Exits of the last run that the guest's own paging made in modes shadow and vtlb; none elsewhere.
    [[nodiscard]] const ReasonCounts& paging_exits() const { return paging_exits_; }

  private:
    void take_page_faults();
    client::RunResult run(const client::Guest::Options& options, u64 due, bool until_repeats);
    void check(const client::RunResult& r, u64 due, bool until_repeats);

    const Row& row_;
    abi::Mode mode_;
    client::Guest guest_;
    u64 most_;
    u64 discarded_ = 0;
    ExitCount count_;
    ReasonCounts paging_exits_{};
};

// Raw durations of the samples that nothing disturbed; the others are added to `disturbed`. Throws Invalid if
// fewer than half are left.
[[nodiscard]] std::vector<std::int64_t> durations(const std::vector<client::Sample>& samples, u64& disturbed);

} // namespace refhv::bench
