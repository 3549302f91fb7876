// SPDX-License-Identifier: MIT
#include "refhv/monitor/ending.hpp"

namespace refhv::monitor {

const char* name_of(Ending::How how) {
    using enum Ending::How;
    switch (how) {
    case powered_off:
        return "powered off";
    case reset:
        return "reset";
    case exited:
        return "exited";
    case halted:
        return "halted";
    case stopped:
        return "stopped";
    case failed:
        return "failed";
    }
    return "?";
}

} // namespace refhv::monitor
