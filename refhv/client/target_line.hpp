// SPDX-License-Identifier: MIT
// What open_target makes a target from: a line of the table, or a name that is one of the forms.
#pragma once

#include "refhv/client/stream_target.hpp"

#include <functional>

namespace refhv::client {

struct TargetLine {
    TargetInfo info;
    std::chrono::milliseconds hello_patience;
    std::function<Emulator()> identify; // throws TargetUnusable
    std::function<void()> check;        // throws TargetUnusable; starts no machine
    StreamTarget::Launch launch;
    StreamTarget::Settle settle{};
    std::function<std::unique_ptr<Target>(TargetInfo)> open{}; // instead, where nothing is launched
};

} // namespace refhv::client
