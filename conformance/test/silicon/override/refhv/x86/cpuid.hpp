// SPDX-License-Identifier: MIT
// CPUID of the machine in conformance/test/silicon/machine.hpp.
#pragma once

#include "conformance/test/silicon/machine.hpp"

namespace refhv::x86 {

[[nodiscard]] inline abi::CpuidLeaf cpuid(u32 leaf, u32 subleaf = 0) {
    const auto& all = silicon::machine().cpuid;
    const auto at = all.find(u64{leaf} << 32 | subleaf);
    return at != all.end() ? at->second : abi::CpuidLeaf{leaf, subleaf, 0, 0, 0, 0};
}

} // namespace refhv::x86
