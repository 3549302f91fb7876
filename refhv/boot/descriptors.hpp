// SPDX-License-Identifier: MIT
// GDT and TSS of each CPU, and the IDT that all share.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::boot {

inline constexpr u16 code_selector = 0x08, data_selector = 0x10, tss_selector = 0x18;

struct [[gnu::packed]] Tss { // SDM 3A figure 8-11
    u32 zero_0;
    u64 rsp[3];
    u64 zero_1;
    u64 ist[7];
    u64 zero_2;
    u16 zero_3, io_map;
};
static_assert(sizeof(Tss) == 104);

struct Descriptors {
    u64 gdt[5];
    Tss tss;
};

// What the gates push, lowest address first.
struct InterruptFrame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

// Fills the IDT. Once, on the first CPU, before anybody loads it.
void make_idt();

struct Cpu;
// Loads this CPU's GDT and TSS (NMI, #DF and #MC have stacks of their own) and the IDT.
void load_descriptors(Cpu& cpu);

} // namespace refhv::boot
