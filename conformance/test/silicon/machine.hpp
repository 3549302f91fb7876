// SPDX-License-Identifier: MIT
// One logical CPU that is none, for the vendors' own sources: registers, MSRs and descriptor tables with the
// faults that a real one raises. What the override headers call instead of instructions ends here.
#pragma once

#include "refhv/contract/abi.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace refhv::silicon {

enum class Vendor : u8 {
    intel,
    amd,
};

// An exception that the host would have taken: the core must never cause one.
struct HostFault {
    u8 vector;
    std::string by;
};

struct Msr {
    u64 value;
    u64 reserved = 0;       // a WRMSR that sets one of these is #GP
    bool canonical = false; // … or one of an address that is not
};

struct Table {
    u16 limit;
    u64 base;
};

// The hidden part of TR; what of it software can read is the selector alone.
struct TaskRegister {
    u16 selector;
    u64 base;
    u32 limit;
};

enum Selector : u8 {
    es,
    cs,
    ss,
    ds,
    fs,
    gs,
};

struct Machine {
    // As firmware leaves it, with a host of 64 bits whose GDT, IDT and TSS are real memory.
    void reset(Vendor vendor);

    u64 cr0, cr2, cr3, cr4, cr8, dr[4], dr6, dr7, xcr0, rflags, tsc;
    u32 pkru;
    u16 selectors[6], ldtr;
    TaskRegister tr;
    Table gdtr, idtr;
    std::map<u32, Msr> msrs;
    u64 cr4_allowed, xcr0_allowed;
    std::map<u64, abi::CpuidLeaf> cpuid; // leaf << 32 | subleaf

    // Host instructions that a non-maskable event could stand behind, by name; called after each.
    std::function<void(const char*)> after_instruction;
    void step(const char* name) {
        ++tsc;
        if (after_instruction) {
            after_instruction(name);
        }
    }

    [[nodiscard]] u64 rdmsr(u32 index);
    void wrmsr(u32 index, u64 value);
    void write_cr0(u64 value);
    void write_cr4(u64 value);
    void write_cr8(u64 value);
    void write_dr6(u64 value);
    void write_dr7(u64 value);
    void xsetbv(u32 index, u64 value);
    void load_segment(Selector which, u16 selector);
    void load_task(u16 selector);
    void swapgs();
    [[nodiscard]] u64 descriptor(u16 selector); // #GP if the GDT has none
};

[[nodiscard]] Machine& machine();

[[noreturn]] void fault(u8 vector, std::string by);
[[nodiscard]] bool is_canonical(u64 address);

// What a guest's program did that its VMCS or VMCB did not keep from the CPU.
inline constexpr u8 general_protection = 13;

} // namespace refhv::silicon
