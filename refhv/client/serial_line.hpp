// SPDX-License-Identifier: MIT
// A line to a machine that somebody else has started: a terminal device, a TCP port, a local socket.
#pragma once

#include "refhv/client/descriptor.hpp"

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace refhv::client {

struct SerialLine {
    enum class Kind {
        terminal,
        tcp,
        local,
    } kind;
    std::string place; // path, or host
    std::string port;  // of TCP
    unsigned baud = 0; // of a terminal; of others what the wire behind them has, 0: not known to be slow

    // "/dev/ttyS0", "host:port", "[::1]:port", "unix:path". Throws BadTargetName.
    [[nodiscard]] static SerialLine parse(std::string_view text);

    // 8 bits, no parity, no handshake. Opens without blocking, for our sole use. Throws TargetUnusable: which
    // place, why, what to do.
    [[nodiscard]] Descriptor open() const;
};

inline constexpr unsigned standard_baud = 115'200; // what the image sets

// Throws BadTargetName unless terminals here have this speed.
void expect_speed(unsigned baud);

// A local socket that may not be there yet: tries until `deadline`, as long as `alive` says that somebody
// will make it. An empty descriptor: it never was.
[[nodiscard]] Descriptor connect_local(const std::string& path,
                                       std::chrono::steady_clock::time_point deadline,
                                       const std::function<bool()>& alive);

} // namespace refhv::client
