// SPDX-License-Identifier: MIT
// A running machine that speaks frames: what a launcher, or a line to somebody else's machine, hands to a
// StreamTarget.
#pragma once

#include "refhv/client/descriptor.hpp"
#include "refhv/client/process.hpp"

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace refhv::client {

struct Machine {
    Process process;              // none: it is somebody else's, and stays when we go
    Descriptor output;            // the machine's frames, and noise; non-blocking
    Descriptor input;             // frames for the machine: a socket or a terminal; non-blocking
    std::vector<Descriptor> held; // what must stay open while it runs
    // What the machine's own log says of its end, one line or empty. May be absent.
    std::function<std::string()> last_words;
    // How it was launched, as far as that depends on the emulator: "-cpu max". Told if it stays away.
    std::string tried{};
    // It may have said hello when nobody listened: it is asked, for the first time after so long without one.
    std::optional<std::chrono::milliseconds> ask_after{};
    unsigned bytes_per_second = 0; // of a line that is slow enough to be waited for; 0: it is not
};

} // namespace refhv::client
