// SPDX-License-Identifier: MIT
// Pieces of guest code that use the local APIC's timer in TSC-deadline mode (SDM 3A 11.5.4.1), in mode native
// on a machine whose APIC is nobody else's: in xAPIC and in x2APIC mode.
#pragma once

#include "conformance/session.hpp"
#include "refhv/client/guest.hpp"

// Maps the APIC's page at layout::arena, whose page-table entry it takes, and leaves that address in R14; 0
// in x2APIC mode. Clobbers RAX, RCX, RDX.
#define REFHV_FIND_APIC                                                                                      \
    "mov $0x1b, %ecx\n rdmsr\n xor %r14d, %r14d\n bt $10, %eax\n jc 90f\n"                                   \
    "and $0xfffff000, %eax\n or $0x7b, %eax\n" /* P, W, PWT, PCD, A, D */                                    \
    "mov %eax, " REFHV_ASM(REFHV_ARENA_ENTRY) "\n mov %edx, " REFHV_ASM(                                     \
        REFHV_ARENA_ENTRY) "+4\n"                                                                            \
                           "mov $" REFHV_ASM(REFHV_ARENA) ", %r14d\n invlpg (%r14)\n 90:\n"

// EAX into the register at this offset of the xAPIC's page. Clobbers RCX, RDX.
#define REFHV_WRITE_APIC(offset)                                                                             \
    "test %r14d, %r14d\n jz 91f\n mov %eax, " #offset "(%r14)\n jmp 92f\n"                                   \
    "91: mov $0x800+" #offset "/16, %ecx\n xor %edx, %edx\n wrmsr\n 92: mfence\n"
#define REFHV_READ_APIC(offset)                                                                              \
    "test %r14d, %r14d\n jz 91f\n mov " #offset "(%r14), %eax\n jmp 92f\n"                                   \
    "91: mov $0x800+" #offset "/16, %ecx\n rdmsr\n 92:\n"

#define REFHV_LVT_TIMER 0x320
#define REFHV_LVT_DEADLINE 0x40000 // bits 18:17 = 10
#define REFHV_TIMER_VECTOR 0x40

// RAX into IA32_TSC_DEADLINE. Clobbers RCX, RDX.
#define REFHV_ARM_DEADLINE "mov %rax, %rdx\n shr $32, %rdx\n mov $0x6e0, %ecx\n wrmsr\n"
#define REFHV_TSC_IN_RAX "lfence\n rdtsc\n lfence\n shl $32, %rdx\n or %rdx, %rax\n"

namespace refhv::front {

// Why there is no such timer for a guest to use; empty: there is.
[[nodiscard]] inline std::string no_tsc_deadline(const client::HelloInfo& hello) {
    if (hello.fixed.platform != static_cast<u16>(abi::Platform::image)) {
        return "the local APIC's timer belongs to the system that runs here";
    }
    return (cpuid(hello, 1, 0, 2) >> 24 & 1) != 0 ? "" : "no TSC-deadline mode: CPUID.01H:ECX[24] is 0";
}

// Has REFHV_TIMER_VECTOR taken by `handler`, at layout::handler.
inline void take_timer(client::Guest& guest, client::GuestCode handler) {
    namespace layout = client::layout;
    constexpr u64 at = layout::handler;
    constexpr u64 gate[2] = {
        (at & 0xffff) | u64{layout::code64} << 16 | u64{0x8e00} << 32 | (at >> 16 & 0xffff) << 48, at >> 32};
    guest.write(layout::idt + 16 * REFHV_TIMER_VECTOR, {reinterpret_cast<const u8*>(gate), sizeof gate});
    guest.write(at, handler.bytes());
}

} // namespace refhv::front
