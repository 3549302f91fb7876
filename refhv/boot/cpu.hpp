// SPDX-License-Identifier: MIT
// What every CPU of the image has of its own: descriptor tables, stacks, counters, and the work that another
// CPU gives it.
#pragma once

#include "refhv/boot/descriptors.hpp"
#include "refhv/contract/types.hpp"

namespace refhv::boot {

// A function to call on another CPU.
struct Job {
    void (*function)(void*);
    void* argument;
};

// Stamps between two CPUs: one asks, the other answers with its TSC; turns are counted up.
struct Exchange {
    u64 turn; // odd: asked
    u64 tsc;  // of the answering CPU
};

struct Cpu {
    static constexpr usize stack_size = 32768, interrupt_stack_size = 8192;

    Descriptors descriptors; // first: GDTR leads to the Cpu that one is on
    u32 number;
    u32 apic_id;
    i64 tsc_offset;
    u64 tsc_error;
    Exchange exchange; // with the first CPU
    u64 nmis;
    u64 served;         // external interrupts
    u64 arrived[4];     // vectors of guests, a bit each, since they were asked for last
    u32 in_run;         // calls of hold_interrupts that were not undone
    bool ready;         // it has come up, and waits for jobs
    void (*job)(void*); // null: none; null again when it has been done
    void* argument;
    alignas(16) u8 interrupt_stacks[3][interrupt_stack_size];
    alignas(16) u8 stack[stack_size];
};

// The CPU that this runs on. Valid from load_descriptors on, but for the time that a guest's GDT is loaded.
[[nodiscard]] Cpu& this_cpu();

// Lets guests of this CPU have XCR0, where it exists.
void enable_xsave();

} // namespace refhv::boot
