// SPDX-License-Identifier: MIT
// Touches and page-table updates in random order over a working set as large as a second-level TLB, by the
// share of updates: where shadow and nested paging cross.
#include "microbench/rows/paging_guest.hpp"

namespace refhv::bench {

namespace {

constexpr u32 batch = 500; // operations a round
constexpr u64 working_set = 2048;

// An update flips R/W of a page and invalidates it; a touch reads a page. Which comes next is drawn without
// replacement (Knuth, algorithm S), so that every round has as many updates; the pages are drawn with. RBP:
// 64-bit linear congruential generator, multiplier R11 (Knuth, MMIX); its upper bits are used. RBX:
// operations left. R14: updates left. The control draws and counts likewise.
#define MIX_ROUND(updates, update, touch)                                                                    \
    "mov $500, %ebx\n mov $" #updates ", %r14d\n"                                                            \
    "5: imul %r11, %rbp\n inc %rbp\n"                                                                        \
    "mov %rbp, %rsi\n shr $53, %rsi\n"                                                                       \
    "mov %rbp, %rax\n shr $20, %rax\n mov %eax, %eax\n imul %rbx, %rax\n shr $32, %rax\n"                    \
    "lea (,%rsi,8), %edi\n shl $12, %esi\n"                                                                  \
    "cmp %r14, %rax\n jae 6f\n"                                                                              \
    "dec %r14d\n" update "jmp 7f\n"                                                                          \
    "6: " touch "7: dec %ebx\n jnz 5b\n"

// Every run starts as a long one would have gone on: `updates` of 500 pages have been dropped.
#define MIX_PREPARE(updates)                                                                                 \
    "movabs $6364136223846793005, %r11\n mov $1, %ebp\n" SET(2048, "3")                                      \
        TOUCH(2048) "mov $2048, %ecx\n mov $" ARENA ", %esi\n"                                               \
                    "3: imul %r11, %rbp\n inc %rbp\n mov %rbp, %rax\n shr $32, %rax\n imul $500, %rax\n "    \
                    "shr $32, %rax\n"                                                                        \
                    "cmp $" #updates ", %eax\n jae 4f\n invlpg (%rsi)\n"                                     \
                    "4: add $0x1000, %esi\n dec %ecx\n jnz 3b\n"

#define UPDATE "xorb $2, " ARENA_ENTRY "(%rdi)\n invlpg " ARENA "(%rsi)\n"
#define READ "mov " ARENA "(%rsi), %al\n"

#define MIX_LOOP(updates, update, touch)                                                                     \
    REFHV_SAMPLE_LOOP(MIX_PREPARE(updates), MIX_ROUND(updates, update, touch), "")

#define MIX(share, updates, ...)                                                                             \
    GUEST(guest_mix_##share, MIX_LOOP(updates, UPDATE, READ))                                                \
    GUEST(control_mix_##share, MIX_LOOP(updates, "", ""))                                                    \
    const Declare mix_##share{paging_row({.name = "shadow.mix_" #share,                                      \
                                          .guest = {guest_mix_##share, control_mix_##share},                 \
                                          .arena_pages = working_set,                                        \
                                          .batch = batch,                                                    \
                                          .most_rounds = 32,                                                 \
                                          __VA_ARGS__})};
MIX(0, 0, .shadow_exits = 0)
MIX(1, 5)
MIX(5, 25)
MIX(10, 50)
MIX(25, 125)
MIX(50, 250)
MIX(100, 500)

} // namespace

} // namespace refhv::bench
