// SPDX-License-Identifier: MIT
// What makes a CPU forget translations, from inside a guest; alone, and with the touch of 16 pages afterwards
// less that touch without. On an emulator that counts instructions refilling a TLB costs nothing, so there
// the second is the first, except under shadow paging, where it is software that refills.
#include "microbench/rows/paging_guest.hpp"
#include "refhv/front/session.hpp"

namespace refhv::bench {

namespace {

#define TOUCH_16                                                                                             \
    "mov $" ARENA ", %esi\n mov $16, %ecx\n 6: mov (%rsi), %al\n add $0x1000, %esi\n dec %ecx\n jnz 6b\n"
// The first use of what the loop needs next, which is refilled too.
#define NEXT_SAMPLE "movb $0, (%r13)\n"
#define FORGETTING(name, prepare, forget, pages)                                                             \
    GUEST(name, REFHV_SAMPLE_LOOP(TOUCH(16) "" prepare, forget pages NEXT_SAMPLE, ""))                       \
    GUEST(control_of_##name, REFHV_SAMPLE_LOOP(TOUCH(16) "" prepare, pages NEXT_SAMPLE, ""))

std::string always([[maybe_unused]] const client::HelloInfo& hello) {
    return "";
}

std::string no_invpcid(const client::HelloInfo& hello) {
    constexpr unsigned ebx = 1;
    return (front::cpuid(hello, 7, 0, ebx) >> 10 & 1) != 0 ? "" : "no INVPCID: CPUID.07H:EBX[10]";
}

Row flush_row(const char* name, client::SampledGuest guest, const char* claim,
              std::string (*missing)(const client::HelloInfo&)) {
    Row row =
        paging_row({.name = name, .guest = guest, .arena_pages = 16, .most_rounds = 64, .native = true});
    row.missing = missing;
    row.rests_on.emplace_back(claim);
    return row;
}

#define FLUSH(id, prepare, forget, claim, missing)                                                           \
    FORGETTING(guest_##id, prepare, forget, "")                                                              \
    FORGETTING(guest_##id##_refill, prepare, forget, TOUCH_16)                                               \
    const Declare id{flush_row("flush." #id, {guest_##id, control_of_guest_##id}, claim, missing)};          \
    const Declare id##_refill{flush_row(                                                                     \
        "flush." #id "_refill_16", {guest_##id##_refill, control_of_guest_##id##_refill}, claim, missing)};

FLUSH(invlpg, "", "invlpg " ARENA "\n", "TlbGuest.invlpg", always)
FLUSH(mov_cr3, "mov %cr3, %rdi\n", "mov %rdi, %cr3\n", "TlbGuest.mov_cr3", always)
// Set and cleared: two writes.
FLUSH(pge_toggle, "mov %cr4, %rdi\n mov %rdi, %rbp\n xor $0x80, %rbp\n", "mov %rbp, %cr4\n mov %rdi, %cr4\n",
      "TlbGuest.change_of_cr4_pge", always)

// Descriptor: PCID 0, the first page of the arena.
#define DESCRIPTOR REFHV_ASM(REFHV_SCRATCH)
#define INVPCID(id, type)                                                                                    \
    FLUSH(id,                                                                                                \
          "movq $0, " DESCRIPTOR "\n movq $" ARENA ", " DESCRIPTOR "+8\n mov $" DESCRIPTOR ", %ebp\n"        \
          "mov $" #type ", %edi\n",                                                                          \
          "invpcid (%rbp), %rdi\n", "TlbGuest.invpcid_without_pcids", no_invpcid)
INVPCID(invpcid_address, 0)
INVPCID(invpcid_single, 1)
INVPCID(invpcid_all, 2)
INVPCID(invpcid_keep_globals, 3)

} // namespace

} // namespace refhv::bench
