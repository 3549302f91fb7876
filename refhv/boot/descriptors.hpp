// SPDX-License-Identifier: MIT
// The image's GDT, TSS and IDT.
#pragma once

#include "refhv/types.hpp"

namespace refhv::boot {

inline constexpr u16 code_selector = 0x08, data_selector = 0x10, tss_selector = 0x18;

// What the gates push, lowest address first.
struct InterruptFrame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

// Loads GDT, TSS (NMI, #DF and #MC have stacks of their own) and IDT.
void load_descriptors();

// RSP0 of the TSS; returns what it was.
u64 exchange_ring0_stack(u64 rsp0);

} // namespace refhv::boot
