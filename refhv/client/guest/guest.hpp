// SPDX-License-Identifier: MIT
// Guest code next to its use.
//
//   GUEST(two_pauses, "pause\n pause")
//   SAMPLED_GUEST(cpuid, "", "xor %eax, %eax", "cpuid")
//
// GUEST assembles its text (AT&T syntax, 64-bit) into this binary's read-only data and defines a GuestCode of
// that name. The code is copied to layout::code and runs there; behind its last byte the builder puts a jump
// to the stop stub, so that a guest ends by running off its end. No relocations: refer to memory by the
// numbers of layout.hpp, to code by local labels. At namespace scope only.
//
// SAMPLED_GUEST makes a sample loop and its control, which is the same loop without the operation. Per round:
//
//     ES := null selector 1
//     start := lfence; rdtsc; lfence
//     setup
//     operation                      (not in the control)
//     end := lfence; rdtsc; lfence
//     store Sample{start, end, ES}
//
// `prepare` runs once before the first round. Setup lies between the stamps and therefore in the control too:
// the control's median is the cost of everything but the operation. An empty pair costs 5 instructions
// (lfence, mov, mov, lfence, rdtsc).
//
// Registers: rax, rcx, rdx, rbx are free to setup and operation (rax and rdx do not survive a stamp); rsi,
// rdi, rbp, r11, r14, r15 are the row's own and survive from prepare to the last round; r8 and r9 hold the
// start stamp, r10 is the loop's scratch, r12 counts rounds, r13 points to the next Sample. rsp is a stack.
// Labels 1 and 2 are the loop's.
#pragma once

#include "refhv/client/guest/layout.hpp"

#include <span>

namespace refhv::client {

// Bytes of guest code inside this binary.
struct GuestCode {
    const u8* begin = nullptr;
    const u8* end = nullptr;
    [[nodiscard]] std::span<const u8> bytes() const { return {begin, end}; }
    [[nodiscard]] usize size() const { return static_cast<usize>(end - begin); }
};

struct SampledGuest {
    GuestCode operation;
    GuestCode control;
};

} // namespace refhv::client

// clang-format off
#define REFHV_GUEST_BYTES(symbol, text)                                                                      \
    asm(".pushsection .rodata.refhv_guest, \"a\", @progbits\n"                                               \
        ".balign 64\n"                                                                                       \
        "refhv_guest_" symbol "_begin:\n" text "\n"                                                          \
        "refhv_guest_" symbol "_end:\n"                                                                      \
        ".byte 0\n" /* so that the end of the last one is an address inside the section */                   \
        ".popsection\n")

#define GUEST(name, text)                                                                                    \
    REFHV_GUEST_BYTES(#name, text);                                                                          \
    extern "C" const ::refhv::u8 name##_guest_begin[] asm("refhv_guest_" #name "_begin");                    \
    extern "C" const ::refhv::u8 name##_guest_end[] asm("refhv_guest_" #name "_end");                        \
    [[maybe_unused]] static constexpr ::refhv::client::GuestCode name{name##_guest_begin, name##_guest_end};

#define REFHV_STAMP "lfence\n rdtsc\n lfence\n"

#define REFHV_SAMPLE_LOOP(prepare, setup, operation)                                                         \
    "mov " REFHV_ASM(REFHV_PARAMETER_COUNT) ", %r12d\n"                                                      \
    "mov $" REFHV_ASM(REFHV_SAMPLES) ", %r13d\n"                                                             \
    prepare "\n"                                                                                             \
    ".p2align 6, 0x90\n"                                                                                     \
    "1: mov $1, %r10d\n"                                                                                     \
    "mov %r10d, %es\n"                                                                                       \
    REFHV_STAMP                                                                                              \
    "mov %eax, %r8d\n"                                                                                       \
    "mov %edx, %r9d\n"                                                                                       \
    setup "\n"                                                                                               \
    operation "\n"                                                                                           \
    REFHV_STAMP                                                                                              \
    "mov %es, %r10d\n"                                                                                       \
    "shl $32, %r9\n or %r9, %r8\n"                                                                           \
    "shl $32, %rdx\n or %rdx, %rax\n"                                                                        \
    "mov %r8, (%r13)\n mov %rax, 8(%r13)\n mov %r10, 16(%r13)\n"                                             \
    "add $24, %r13\n"                                                                                        \
    "dec %r12\n jnz 1b\n"

#define SAMPLED_GUEST(name, prepare, setup, operation)                                                       \
    GUEST(name##_operation, REFHV_SAMPLE_LOOP(prepare, setup, operation))                                    \
    GUEST(name##_control, REFHV_SAMPLE_LOOP(prepare, setup, ""))                                             \
    [[maybe_unused]] static constexpr ::refhv::client::SampledGuest name{name##_operation, name##_control};
// clang-format on
