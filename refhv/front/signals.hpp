// SPDX-License-Identifier: MIT
// How a tool ends on SIGINT, SIGTERM and SIGHUP: its children end with it, one line says what is kept, and
// the exit code is 128 + the signal's number, as a shell has it.
#pragma once

#include <string_view>

namespace refhv::front {

// From here on. What was ignored before (nohup) stays ignored. A write beyond the limit of a file's size
// becomes an error like any other.
void end_on_signals(std::string_view program);

// What the line says of the work done so far; at most 1000 bytes of it.
void say_on_signal(std::string_view kept);

} // namespace refhv::front
