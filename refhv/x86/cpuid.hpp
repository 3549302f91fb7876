// SPDX-License-Identifier: MIT
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv::x86 {

[[nodiscard]] inline abi::CpuidLeaf cpuid(u32 leaf, u32 subleaf = 0) {
    abi::CpuidLeaf l{.leaf = leaf, .subleaf = subleaf, .eax = 0, .ebx = 0, .ecx = 0, .edx = 0};
    asm volatile("cpuid" : "=a"(l.eax), "=b"(l.ebx), "=c"(l.ecx), "=d"(l.edx) : "a"(leaf), "c"(subleaf));
    return l;
}

} // namespace refhv::x86
