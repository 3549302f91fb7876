// SPDX-License-Identifier: MIT
// A running machine that speaks frames: what a launcher hands to a StreamTarget.
#pragma once

#include "refhv/client/descriptor.hpp"
#include "refhv/client/process.hpp"

#include <functional>
#include <string>
#include <vector>

namespace refhv::client {

struct Machine {
    Process process;
    Descriptor output;            // the machine's frames, and noise; non-blocking
    Descriptor input;             // frames for the machine: a socket or a terminal; non-blocking
    std::vector<Descriptor> held; // what must stay open while it runs
    // What the machine's own log says of its end, one line or empty. May be absent.
    std::function<std::string()> last_words;
    // How it was launched, as far as that depends on the emulator: "-cpu max". Told if it stays away.
    std::string tried{};
};

} // namespace refhv::client
