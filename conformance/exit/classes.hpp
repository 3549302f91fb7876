// SPDX-License-Identifier: MIT
// Every class of VM exit, by the events and instructions that make one: what the claims go through that hold
// for all exits.
#pragma once

#include "conformance/intr/case.hpp"

namespace refhv::front {

// What the exit leaves of RFLAGS.RF (SDM 3C 28.3.3).
enum class SavedRf : u8 {
    zero,
    one,
    as_before
};

struct ExitClass {
    const char* name;
    std::vector<u8> code; // with fill_for()
    abi::Reason reason;
    SavedRf rf;
    u64 length; // VM-exit instruction length, where the exit has one (SDM 3C 28.2.5); else 0
    client::Plan plan{};
    u64 at = 0;                                      // RIP behind layout::code
    void (*prepare)(client::Guest& guest) = nullptr; // raw fields, protections, registers
    u32 event = 0;                                   // VM-exit interruption information; 0: not valid
    std::optional<u32> error{};                      // its error code
    bool changes_shadow = false;                     // needs the guest's blocking or IF for itself
};

// Those of both vendors, and VMX's own.
#define REFHV_EXIT_CLASSES(X)                                                                                \
    X(cpuid)                                                                                                 \
    X(hlt)                                                                                                   \
    X(rdtsc)                                                                                                 \
    X(mov_from_cr3)                                                                                          \
    X(mov_from_dr0)                                                                                          \
    X(invlpg)                                                                                                \
    X(pause)                                                                                                 \
    X(divide_error)                                                                                          \
    X(invalid_opcode)                                                                                        \
    X(general_protection)                                                                                    \
    X(bad_selector)                                                                                          \
    X(stack_fault)                                                                                           \
    X(page_fault_read)                                                                                       \
    X(page_fault_write)                                                                                      \
    X(int3)                                                                                                  \
    X(nested_read)                                                                                           \
    X(nested_write)
#define REFHV_VMX_EXIT_CLASSES(X)                                                                            \
    X(interrupt_window)                                                                                      \
    X(preemption_timer)                                                                                      \
    X(monitor_trap)

// By the name in those lists. SKIPs where the CPU does not offer it.
[[nodiscard]] const ExitClass& exit_class(std::string_view name);

// Offset of a descriptor in the guests' GDT that is not present (data, ring 0).
inline constexpr u16 absent_data = client::layout::gdt_limit + 1;

} // namespace refhv::front
