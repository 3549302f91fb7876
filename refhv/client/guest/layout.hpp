// SPDX-License-Identifier: MIT
// Where everything stands in a guest's memory. One layout for every mode and target: guest code is copied to
// a fixed address, so that addresses may appear in it as plain numbers. They are macros because assembly text
// needs them; REFHV_ASM(x) turns one into a piece of a string literal.
//
// Guest-virtual equals guest-physical. All offsets below are from REFHV_GUEST_BASE.
#pragma once

#include "refhv/contract/abi.hpp"

#include <array>

#define REFHV_STRINGIZE(x) #x
#define REFHV_ASM(x) REFHV_STRINGIZE(x)

#define REFHV_GUEST_BASE 0x40000000
#define REFHV_STOP 0x40010000      // jumping here ends the guest's run
#define REFHV_RECORD 0x40011000    // ExceptionRecord
#define REFHV_PARAMETER 0x40012000 // Parameters
#define REFHV_SCRATCH 0x40012800   // 2 KB that a guest may scribble on
#define REFHV_CODE 0x40020000
#define REFHV_STACK_TOP 0x40040000
#define REFHV_HANDLER 0x40040000     // a row's own #PF handler
#define REFHV_SAMPLES 0x40100000     // Sample[]
#define REFHV_ARENA 0x40400000       // pages of the rows that ask for some (Plan::arena_pages)
#define REFHV_ARENA_ENTRY 0x40007000 // page-table entry of the first of them
#define REFHV_UNMAPPED 0x7f000000    // no page table of the guest maps it

// Offsets of Parameters that guest code reads.
#define REFHV_PARAMETER_COUNT 0x40012000
#define REFHV_PARAMETER_ADVANCE 0x40012008
#define REFHV_PARAMETER_GDTR 0x40012010
#define REFHV_PARAMETER_IDTR 0x40012020

namespace refhv::client::layout {

inline constexpr u64 base = REFHV_GUEST_BASE;
inline constexpr u64 gdt = base;
inline constexpr u64 tss = base + 0x800;
inline constexpr u64 idt = base + 0x1000;
inline constexpr u64 pml4 = base + 0x2000;
inline constexpr u64 pdpt = base + 0x3000;
inline constexpr u64 page_directory = base + 0x4000;
inline constexpr u64 page_tables = base + 0x5000; // one page per 2 MB of guest memory
inline constexpr u64 stop = REFHV_STOP;
inline constexpr u64 vectors = base + 0x10100; // 32 stubs of 16 bytes and what they share
inline constexpr u64 record = REFHV_RECORD;
inline constexpr u64 parameter = REFHV_PARAMETER;
inline constexpr u64 code = REFHV_CODE;
inline constexpr u64 stack_top = REFHV_STACK_TOP;
inline constexpr u64 handler = REFHV_HANDLER;
inline constexpr u64 samples = REFHV_SAMPLES;
inline constexpr u64 arena = REFHV_ARENA;

inline constexpr u64 code_bytes = 0x10000;                         // the stack grows down to here
inline constexpr u64 sample_pages = (arena - samples) / page_size; // at most
inline constexpr u64 base_pages = (arena - base) / page_size;
inline constexpr u64 max_pages = (stop - page_tables) / page_size * 512;
static_assert(REFHV_ARENA_ENTRY == page_tables + 8 * base_pages);

// Selectors of the guest's GDT.
inline constexpr u16 code64 = 0x08;
inline constexpr u16 data = 0x10;
inline constexpr u16 code64_user = 0x18 | 3;
inline constexpr u16 data_user = 0x20 | 3;
inline constexpr u16 task = 0x28;

inline constexpr u16 gdt_limit = 7 * 8 - 1;
inline constexpr u16 idt_limit = 0xfff;

inline constexpr u16 stop_port = 0xf5; // written by the stop stub where HLT is what is measured
inline constexpr u8 native_stop_vector = 0x20;

} // namespace refhv::client::layout

namespace refhv::client {

// A gate of the guest's IDT: a 64-bit interrupt gate of ring 0 (SDM 3A figure 6-8).
[[nodiscard]] constexpr std::array<u64, 2> interrupt_gate(u64 handler, u64 ist = 0) {
    constexpr u64 present_interrupt_gate = 0x8e00;
    return {(handler & 0xffff) | u64{layout::code64} << 16 | ist << 32 | present_interrupt_gate << 32 |
                (handler >> 16 & 0xffff) << 48,
            handler >> 32};
}

// One round of a sample loop (guest.hpp). `es` is the ES selector after the round, 1 before it: an interrupt
// that returned to ring 3 by IRET cleared it (a non-zero null selector does not survive IRET; SegScope, HPCA
// 2024).
struct Sample {
    u64 start; // TSC
    u64 end;   // TSC
    u64 es;
    [[nodiscard]] bool disturbed() const { return es == 0; }
};
static_assert(sizeof(Sample) == 24);

// What the guest's own exception handlers saw. Vector to rflags are those of the first exception.
struct ExceptionRecord {
    u64 count;
    u64 vector;
    u64 error;
    u64 rip;
    u64 cr2; // #PF only
    u64 rflags;
};
static_assert(sizeof(ExceptionRecord) == 48);

// The parameter page.
struct Parameters {
    u64 count;   // rounds of a sample loop
    u64 advance; // what the exception handlers add to the saved RIP; 0: an exception ends the run
    u8 gdtr[16]; // pseudo-descriptors, ready for LGDT and LIDT
    u8 idtr[16];
};
static_assert(sizeof(Parameters) == 48);
static_assert(REFHV_PARAMETER_COUNT == REFHV_PARAMETER + offsetof(Parameters, count));
static_assert(REFHV_PARAMETER_ADVANCE == REFHV_PARAMETER + offsetof(Parameters, advance));
static_assert(REFHV_PARAMETER_GDTR == REFHV_PARAMETER + offsetof(Parameters, gdtr));
static_assert(REFHV_PARAMETER_IDTR == REFHV_PARAMETER + offsetof(Parameters, idtr));

} // namespace refhv::client
