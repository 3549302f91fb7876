// SPDX-License-Identifier: MIT
// A serial line for a child that opens it by name.
#pragma once

#include "refhv/client/descriptor.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <system_error>
#include <termios.h>

namespace refhv::client {

// We keep the far end open too: else the near end reports a hang-up until the child opens it.
struct PseudoTerminal {
    Descriptor near{posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)};
    Descriptor far;
    std::string far_path;

    // Throws std::system_error.
    PseudoTerminal() {
        char path[64];
        if (near && grantpt(near.get()) == 0 && unlockpt(near.get()) == 0 &&
            ptsname_r(near.get(), path, sizeof path) == 0) {
            far_path = path;
            far = Descriptor{open(path, O_RDWR | O_NOCTTY | O_CLOEXEC)};
        }
        termios mode{};
        if (!far || tcgetattr(far.get(), &mode) != 0) {
            throw std::system_error(errno, std::generic_category(), "no pseudo-terminal can be had");
        }
        cfmakeraw(&mode);
        tcsetattr(far.get(), TCSANOW, &mode);
    }
};

} // namespace refhv::client
