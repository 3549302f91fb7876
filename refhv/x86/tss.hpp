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

// The limit that LTR would load: what a VM exit leaves of it no instruction tells.
[[nodiscard]] inline u32 tss_limit(const DescriptorTable& gdt, u16 selector) {
    const u64 d = *reinterpret_cast<const u64*>(gdt.base + (selector & ~u64{7}));
    return static_cast<u32>((d & 0xffff) | (d >> 32 & 0xf'0000));
}

// LTR wants a TSS that is available (SDM 2A LTR).
inline void reload_task(const DescriptorTable& gdt, u16 selector) {
    constexpr u64 busy = u64{1} << 41;
    *reinterpret_cast<u64*>(gdt.base + (selector & ~u64{7})) &= ~busy;
    ltr(selector);
}

} // namespace refhv::x86
