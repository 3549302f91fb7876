// SPDX-License-Identifier: MIT
// How long to wait for a machine. All waits scale together, for a slow or a busy host.
#pragma once

#include <chrono>

namespace refhv::client {

// `standard` times the environment's REFHV_PATIENCE, a number above 0 (absent: 1). Throws TargetUnusable if
// it is not.
[[nodiscard]] std::chrono::milliseconds patience(std::chrono::milliseconds standard);

} // namespace refhv::client
