// SPDX-License-Identifier: MIT
// Targets whose names say what they are: "serial:DEV", "qemu:accel=kvm". docs/targets.md has them all.
#pragma once

#include "refhv/client/target_line.hpp"

#include <optional>
#include <string_view>

namespace refhv::client {

// None: the name is of no form. Throws BadTargetName: it is, and cannot be.
[[nodiscard]] std::optional<TargetLine> line_of(std::string_view name);

} // namespace refhv::client
