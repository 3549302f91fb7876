// SPDX-License-Identifier: MIT
// Where a task-state segment lies, read from the GDT (SDM 3A figure 8-4: a 16-byte descriptor in IA-32e
// mode).
#pragma once

#include "refhv/x86/intrinsics.hpp"

namespace refhv::x86 {

[[nodiscard]] inline u64 tss_base(const DescriptorTable& gdt, u16 selector) {
    const auto* d = reinterpret_cast<const u64*>(gdt.base + (selector & ~u64{7}));
    return (d[0] >> 16 & 0xff'ffff) | (d[0] >> 56 & 0xff) << 24 | (d[1] & 0xffff'ffff) << 32;
}

} // namespace refhv::x86
