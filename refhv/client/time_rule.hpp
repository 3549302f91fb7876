// SPDX-License-Identifier: MIT
// Whether the time of a machine that we know only by its greeting is real. Emulated ticks are never called
// cycles; where nobody vouches for the time of a virtual machine, they are not either.
#pragma once

#include "refhv/client/stream_target.hpp"

namespace refhv::client {

enum class Time {
    unsaid,       // cycles, unless CPUID tells of a hypervisor or of an emulator: then as ticks
    cycles,       // of the hardware's TSC, the user vouches
    ticks,        // an emulator's own time
    instructions, // an emulator's, a tick an instruction: shown at every launch
};

// The value of an option time=. Throws BadTargetName.
[[nodiscard]] Time time_in(std::string_view word);

// What is known of such a target before its greeting.
void declare_time(TargetInfo& info, Time said);

// Completes the info by the greeting: vendor, and time where nothing was said. Throws TargetUnusable where
// what was said cannot be: an emulator that names itself has no cycles.
[[nodiscard]] StreamTarget::Settle settle_by(Time said);

} // namespace refhv::client
