// SPDX-License-Identifier: MIT
// What the targets `self` and `kvm` say of the machine that they run on.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/self/tsc_rate.hpp"

#include <string>
#include <vector>

namespace refhv::client::self {

// The signature of CPUID leaf 40000000H ("KVMKVMKVM"), printable characters only; empty if CPUID.1:ECX[31]
// announces no hypervisor, "?" if one is announced and unnamed.
[[nodiscard]] std::string hypervisor_signature();

// The body of a hello reply: HelloReply and all CPUID leaves of the CPU at hand. `mode` is user or kvm.
[[nodiscard]] std::vector<u8> hello_body(u32 cpus, const TscRate& tsc, abi::Mode mode);

} // namespace refhv::client::self
