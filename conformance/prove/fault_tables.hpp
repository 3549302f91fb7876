// SPDX-License-Identifier: MIT
// The tables of seeded faults, a file each.
#pragma once

#include "conformance/prove/fault.hpp"

namespace refhv::front::faults {

[[nodiscard]] std::span<const Fault> both();
[[nodiscard]] std::span<const Fault> vmx_asked();    // controls and guest state that the CPU does not heed
[[nodiscard]] std::span<const Fault> vmx_answered(); // exit information and fields that are wrong
[[nodiscard]] std::span<const Fault> svm();

} // namespace refhv::front::faults
