// SPDX-License-Identifier: MIT
// Linux's KVM on this machine: whether it is there, and what it can do.
#pragma once

#include <string>

namespace refhv::client::self::kvm {

inline constexpr const char* device = "/dev/kvm";

// Why KVM cannot be used, and what to do; empty: it can. Starts nothing.
[[nodiscard]] std::string obstacle();

// Whether it runs guests by VMX or SVM. Others, such as kvm_pvm, do it in software.
[[nodiscard]] bool is_hardware_assisted();

// "KVM of Linux 6.1.0, kvm_amd, nested paging": what a person should know of it. "kvm" alone where the
// module's parameters do not say how it translates.
[[nodiscard]] std::string description();

// An open /dev/kvm, close-on-exec; -1 and errno.
[[nodiscard]] int open_device();

} // namespace refhv::client::self::kvm
