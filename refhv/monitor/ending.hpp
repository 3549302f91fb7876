// SPDX-License-Identifier: MIT
// How a machine comes to its end.
#pragma once

#include "refhv/contract/types.hpp"

#include <string>

namespace refhv::monitor {

struct Ending {
    enum class How : u8 {
        powered_off, // ACPI S5
        reset,       // keyboard controller, CF9H, or a triple fault
        exited,      // debug-exit port, with a code
        halted,      // HLT with interrupts off
        stopped,     // by whoever asked, or its time is over; it can go on
        failed,      // the guest wants what the monitor does not have; `text` says what
    };
    How how{};
    int code = 0;
    std::string text;
};

[[nodiscard]] const char* name_of(Ending::How how);

} // namespace refhv::monitor
