// SPDX-License-Identifier: MIT
// Names of CPUs, from the raw CPUID leaves of a greeting.
#pragma once

#include "refhv/client/target.hpp"

namespace refhv::front {

// CPUID leaf 1 EAX decoded: SDM 2A "CPUID", figure 3-6; APM 3 E.3.2. Vendor as leaf 0 spells it.
struct Signature {
    std::string vendor; // "GenuineIntel"
    u32 family = 0;     // extended family added
    u32 model = 0;      // extended model in front
    u32 stepping = 0;
};

[[nodiscard]] Signature signature_of(const client::HelloInfo& hello);
// Leaves 8000_0002H to 8000_0004H, trimmed; empty if not offered.
[[nodiscard]] std::string brand_of(const client::HelloInfo& hello);
// Leaf 4000_0000H in words ("KVM", "Microsoft Hyper-V", or the signature itself); empty where
// CPUID.01H:ECX[31] is 0.
[[nodiscard]] std::string hypervisor_of(const client::HelloInfo& hello);

// The microarchitecture by our own table, 2006 to 2025; "unknown <vendor> family F model M" for what is not
// in it.
[[nodiscard]] std::string model_name(const Signature& signature);
// The same for a greeting; a virtual CPU that says so in its brand string is called by that, whatever its
// signature.
[[nodiscard]] std::string machine_name(const client::HelloInfo& hello);
// One line for people: microarchitecture, signature, brand.
[[nodiscard]] std::string describe_machine(const client::HelloInfo& hello);

} // namespace refhv::front
