// SPDX-License-Identifier: MIT
// Two ends of a local byte stream: ours, which never blocks, and that of a child.
#pragma once

#include "refhv/client/descriptor.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <system_error>

namespace refhv::client {

struct SocketPair {
    Descriptor ours, theirs;

    // Throws std::system_error.
    SocketPair() {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
            throw std::system_error(errno, std::generic_category(), "no socket pair can be made");
        }
        ours = Descriptor{ends[0]};
        theirs = Descriptor{ends[1]};
        fcntl(ours.get(), F_SETFL, fcntl(ours.get(), F_GETFL) | O_NONBLOCK);
    }
};

} // namespace refhv::client
