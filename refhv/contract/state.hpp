// SPDX-License-Identifier: MIT
// The state of a guest. Part of abi.hpp.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::abi {

enum Gpr : u8 {
    rax = 0,
    rcx = 1,
    rdx = 2,
    rbx = 3,
    rsp = 4,
    rbp = 5,
    rsi = 6,
    rdi = 7,
    r8 = 8,
    r9 = 9,
    r10 = 10,
    r11 = 11,
    r12 = 12,
    r13 = 13,
    r14 = 14,
    r15 = 15,
};

enum SegmentIndex : u8 {
    es = 0,
    cs = 1,
    ss = 2,
    ds = 3,
    fs = 4,
    gs = 5,
    ldtr = 6,
    tr = 7,
};

struct Segment {
    u64 base;
    u32 limit;
    u32 rights; // SDM 3C table 25-2 (access rights): type, S, DPL, P, AVL, L, D/B, G, and bit 16 = unusable
    u16 selector;
    u16 zero[3];
};

struct TableRegister {
    u64 base;
    u32 limit;
    u32 zero;
};

struct GuestState {
    u64 gpr[16];
    u64 rip, rflags;
    u64 cr0, cr2, cr3, cr4, cr8, xcr0;
    u64 efer;
    u64 dr[4], dr6, dr7;
    Segment segment[8];
    TableRegister gdtr, idtr;
    u64 star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, tsc_aux;
    u64 interrupt_shadow; // 1: the next instruction is in the shadow of STI or MOV SS
};

static_assert(sizeof(Segment) == 24);
static_assert(sizeof(TableRegister) == 16);
static_assert(sizeof(GuestState) == 31 * 8 + 8 * 24 + 2 * 16 + 11 * 8);
static_assert(offsetof(GuestState, segment) == 31 * 8);

} // namespace refhv::abi
