// SPDX-License-Identifier: MIT
// The core inside this machine's Linux kernel: /dev/refhv, which the module in refhv/kmod offers.
#pragma once

#include "refhv/client/target.hpp"

namespace refhv::client::linux_module {

inline constexpr const char* device = "/dev/refhv";

// Is the device there, and may this process open it? Throws TargetUnusable.
void check();

// "vmx", "svm" or "none": what this machine's CPU has.
[[nodiscard]] std::string backend();

// Is this machine itself an emulator's, so that its ticks are no hardware's? QEMU's TCG and Bochs are known:
// by the signature in CPUID, or by the firmware's tables where no hypervisor shows itself.
[[nodiscard]] bool is_emulated();

[[nodiscard]] std::unique_ptr<Target> open(TargetInfo info);

} // namespace refhv::client::linux_module
