// SPDX-License-Identifier: MIT
// Runs a guest as part of this very process, until a signal that the policy does not answer.
//
// SIGSEGV, SIGILL, SIGBUS, SIGFPE and SIGTRAP become exits (self_exit.hpp), handled in the signal handler.
// #BP always ends the run, whatever the policy: INT3 is the stop stub of mode user. A timer signal ends it at
// the deadline. The guest has this process's FS and GS; should it change FS, the change is its own.
#pragma once

#include "refhv/self/vm.hpp"

#include <vector>

namespace refhv::client::self {

// Without Run::deadline.
inline constexpr u64 longest_run_seconds = 10;

struct RunResult {
    abi::Outcome outcome = abi::Outcome::exited;
    abi::RunReply reply{};
    std::vector<abi::HostStamp> stamps;
};

// Runs vm from vm.state and leaves the final state there. RunReply::interrupts counts involuntary context
// switches. One guest at a time, in one thread. `tsc_hz` turns Run::deadline into time.
[[nodiscard]] RunResult run_guest(Vm& vm, const abi::Run& run, u64 tsc_hz);

} // namespace refhv::client::self
