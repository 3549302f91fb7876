// SPDX-License-Identifier: MIT
#include "refhv/front/guests/counted_guest.hpp"

namespace refhv::front {

// `n` times in a row.
#define TIMES(n, text) ".rept " #n "\n" text "\n .endr\n"
// 1 + 33 × 3 and 1 + 333 × 3 instructions.
#define HUNDRED(text) "mov $33, %ecx\n 2: " text "\n dec %ecx\n jnz 2b\n"
#define THOUSAND(text) "mov $333, %ecx\n 2: " text "\n dec %ecx\n jnz 2b\n"
#define CPUIDS(n) TIMES(n, "cpuid")
// RCX and RDI do not survive: both are loaded each time.
#define STRING(n, text) "mov $" #n ", %ecx\n mov $" REFHV_ASM(REFHV_SCRATCH) ", %edi\n rep " text "\n"

// what, count, other instructions, kind, text
// clang-format off
#define COUNTED(X)                                                                                           \
    X("NOPs", 0, 0, plain, "")                                                                               \
    X("NOPs", 1, 0, plain, TIMES(1, "nop"))                                                                  \
    X("NOPs", 2, 0, plain, TIMES(2, "nop"))                                                                  \
    X("NOPs", 3, 0, plain, TIMES(3, "nop"))                                                                  \
    X("NOPs", 7, 0, plain, TIMES(7, "nop"))                                                                  \
    X("NOPs", 100, 0, plain, TIMES(100, "nop"))                                                              \
    X("NOPs", 1000, 0, plain, TIMES(1000, "nop"))                                                            \
    X("additions", 1, 0, plain, TIMES(1, "add %eax, %edx"))                                                  \
    X("additions", 2, 0, plain, TIMES(2, "add %eax, %edx"))                                                  \
    X("additions", 3, 0, plain, TIMES(3, "add %eax, %edx"))                                                  \
    X("additions", 7, 0, plain, TIMES(7, "add %eax, %edx"))                                                  \
    X("additions", 100, 0, plain, TIMES(100, "add %eax, %edx"))                                              \
    X("instructions of a loop that adds", 100, 0, plain, HUNDRED("add %eax, %edx"))                          \
    X("instructions of a loop that adds", 1000, 0, plain, THOUSAND("add %eax, %edx"))                        \
    X("jumps", 1, 0, plain, TIMES(1, "jmp .+2"))                                                             \
    X("jumps", 2, 0, plain, TIMES(2, "jmp .+2"))                                                             \
    X("jumps", 7, 0, plain, TIMES(7, "jmp .+2"))                                                             \
    X("jumps", 100, 0, plain, TIMES(100, "jmp .+2"))                                                         \
    X("loads", 1, 0, plain, TIMES(1, "mov (%rsi), %eax"))                                                    \
    X("loads", 2, 0, plain, TIMES(2, "mov (%rsi), %eax"))                                                    \
    X("stores", 3, 0, plain, TIMES(3, "mov %eax, (%rsi)"))                                                   \
    X("additions in memory", 7, 0, plain, TIMES(7, "add %eax, (%rsi)"))                                      \
    X("additions in memory", 100, 0, plain, TIMES(100, "add %eax, (%rsi)"))                                  \
    X("instructions of a loop that loads", 1000, 0, plain, THOUSAND("mov (%rsi), %eax"))                     \
    X("instructions of a loop that stores", 1000, 0, plain, THOUSAND("mov %eax, (%rsi)"))                    \
    X("CPUIDs", 1, 0, cpuid, CPUIDS(1))                                                                      \
    X("CPUIDs", 2, 0, cpuid, CPUIDS(2))                                                                      \
    X("CPUIDs", 3, 0, cpuid, CPUIDS(3))                                                                      \
    X("CPUIDs", 7, 0, cpuid, CPUIDS(7))                                                                      \
    X("CPUIDs", 100, 0, cpuid, CPUIDS(100))                                                                  \
    X("iterations of REP STOSB", 0, 2, string, STRING(0, "stosb"))                                           \
    X("iterations of REP STOSB", 1, 2, string, STRING(1, "stosb"))                                           \
    X("iterations of REP STOSB", 2, 2, string, STRING(2, "stosb"))                                           \
    X("iterations of REP STOSB", 7, 2, string, STRING(7, "stosb"))                                           \
    X("iterations of REP STOSB", 100, 2, string, STRING(100, "stosb"))                                       \
    X("iterations of REP LODSQ", 100, 2, string, STRING(100, "lodsq"))

#define TEXT(what, count, others, kind, text)                                                                \
    REFHV_STAMP                                                                                              \
    "mov %eax, %r8d\n mov %edx, %r9d\n"                                                                      \
    text                                                                                                     \
    REFHV_STAMP                                                                                              \
    "call 9f\n"

#define PAIR(what, count, others, kind, text) CountedPair{what, count, others, CountedPair::Kind::kind},

// Label 9 stores a Sample of which nothing can be disturbed, for interrupts are off.
GUEST(guest_counted,
      "mov " REFHV_ASM(REFHV_PARAMETER_COUNT) ", %r12d\n"
      "mov $" REFHV_ASM(REFHV_SAMPLES) ", %r13d\n"
      "mov $" REFHV_ASM(REFHV_SCRATCH) ", %r14d\n"
      "mov %r14d, %esi\n"
      "1:\n"
      COUNTED(TEXT)
      "dec %r12\n jnz 1b\n"
      "jmp 8f\n"
      "9: shl $32, %r9\n or %r9, %r8\n"
      "shl $32, %rdx\n or %rdx, %rax\n"
      "mov %r8, (%r13)\n mov %rax, 8(%r13)\n movq $1, 16(%r13)\n"
      "add $24, %r13\n"
      "mov %r14d, %esi\n"
      "ret\n"
      "8:\n")
// clang-format on

client::GuestCode counted_guest() {
    return guest_counted;
}

std::span<const CountedPair> counted_pairs() {
    static constexpr auto pairs = std::to_array<CountedPair>({COUNTED(PAIR)});
    return pairs;
}

} // namespace refhv::front
