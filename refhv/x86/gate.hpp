// SPDX-License-Identifier: MIT
// An entry of the IDT in IA-32e mode (SDM 3A figure 6-8).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::x86 {

struct Gate {
    u16 offset_low, selector;
    u8 ist, attributes;
    u16 offset_middle;
    u32 offset_high, zero;

    static constexpr u8 present = 0x80, interrupt_gate = 0x8e; // attributes: P; P, DPL 0, type 14

    // An interrupt gate of ring 0.
    [[nodiscard]] static constexpr Gate to(u64 handler, u16 selector, u8 ist) {
        return {.offset_low = static_cast<u16>(handler),
                .selector = selector,
                .ist = ist,
                .attributes = interrupt_gate,
                .offset_middle = static_cast<u16>(handler >> 16),
                .offset_high = static_cast<u32>(handler >> 32),
                .zero = 0};
    }
};
static_assert(sizeof(Gate) == 16);
inline constexpr unsigned idt_entries = 256;

} // namespace refhv::x86
