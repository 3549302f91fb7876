// SPDX-License-Identifier: MIT
// Any virtual machine monitor, by a command that starts it with the image and says where its serial line is.
#pragma once

#include "refhv/client/machine.hpp"
#include "refhv/client/target.hpp"

#include <map>

namespace refhv::client {

struct Command {
    // Where COM1 of the machine ends.
    enum class Line {
        standard, // standard input and output of the command
        socket,   // a local socket on which the command listens: {socket}
        listener, // one on which we listen: {listen}
        terminal, // a pseudo-terminal of ours, which the command opens: {pty}
    } line = Line::standard;
    std::vector<std::string> words;             // of the program, before places are put in
    std::map<std::string, std::string> options; // of those that were asked for

    // "KEY=VALUE ... PROGRAM ARGUMENT ...": blanks and ends of lines between words; '...', "..." and \ as in
    // a shell, but nothing else of one; {name} is a place, {{ and }} are braces; a line that begins with # is
    // a comment. Options come first, and are those of `keys` only. Throws BadTargetName.
    [[nodiscard]] static Command parse(std::string_view text, const std::vector<std::string_view>& keys);

    // Starts it. `patience` bounds the wait for a socket of its own. Throws TargetUnusable, TargetMiss,
    // SpawnFailed, std::system_error.
    [[nodiscard]] Machine launch(std::chrono::milliseconds patience) const;

    // The path of its program. Throws TargetUnusable.
    [[nodiscard]] std::string program() const;
};

// A word of a command with its places put in. Throws BadTargetName.
[[nodiscard]] std::string put_places(std::string_view word, const std::map<std::string, std::string>& places);

} // namespace refhv::client
