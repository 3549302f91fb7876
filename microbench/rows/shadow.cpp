// SPDX-License-Identifier: MIT
// What a guest does with its own page tables, under nested, shadow and vtlb paging. Every round takes a page
// of its own, so nothing has to be undone. docs/method.md, "Shadow paging".
#include "microbench/rows/paging_guest.hpp"

namespace refhv::bench {

namespace {

// As many rounds as there are pages behind one page table.
constexpr u64 one_table = 512;

SAMPLED_GUEST(guest_map, CLEAR(512, "0xfe") RELOAD FIRST_PAGE, NEXT_PAGE, "orb $1, (%rdi)\n mov (%rsi), %al")
const Declare map{paging_row({.name = "shadow.map",
                              .guest = guest_map,
                              .arena_pages = one_table,
                              .most_rounds = one_table,
                              .native = true})};

SAMPLED_GUEST(guest_unmap, SET(512, "1") TOUCH(512) FIRST_PAGE, NEXT_PAGE,
              "andb $0xfe, (%rdi)\n invlpg (%rsi)")
const Declare unmap{paging_row({.name = "shadow.unmap",
                                .guest = guest_unmap,
                                .arena_pages = one_table,
                                .most_rounds = one_table,
                                .native = true})};

SAMPLED_GUEST(guest_protect, SET(512, "3") TOUCH(512) FIRST_PAGE, NEXT_PAGE,
              "andb $0xfd, (%rdi)\n invlpg (%rsi)\n mov (%rsi), %al")
const Declare protect{paging_row({.name = "shadow.protect",
                                  .guest = guest_protect,
                                  .arena_pages = one_table,
                                  .most_rounds = one_table,
                                  .native = true})};

SAMPLED_GUEST(guest_invlpg, TOUCH(512) FIRST_PAGE, NEXT_PAGE, "invlpg (%rsi)")
const Declare invlpg{paging_row({.name = "shadow.invlpg",
                                 .guest = guest_invlpg,
                                 .arena_pages = one_table,
                                 .most_rounds = one_table,
                                 .shadow_exits = 1,
                                 .native = true})};

// The guest's own #PF, handled by stepping over the access: what of a demand fault is not the mapping.
GUEST(step_over_access, "addq $2, 8(%rsp)\n add $8, %rsp\n iretq")
SAMPLED_GUEST(guest_fault, CLEAR(1, "0xfe") RELOAD "mov $" ARENA ", %esi", "", "mov (%rsi), %al")
const Declare fault{paging_row({.name = "shadow.guest_fault",
                                .guest = guest_fault,
                                .page_fault = step_over_access,
                                .arena_pages = 1,
                                .shadow_exits = 1,
                                .native = true})};

// The switch and the first use of what the loop needs next, which a TLB in software has lost.
#define SWITCH(root) "mov " root ", %cr3\n movb $0, (%r13)"

// Two roots, taken in turn; both are known once the run is warm.
SAMPLED_GUEST(guest_cached, COPY_ROOT("$" ARENA) "mov $" ARENA ", %r14d\n mov %cr3, %r15", "xchg %r14, %r15",
              SWITCH("%r15"))
const Declare cached{
    paging_row({.name = "shadow.switch_cached", .guest = guest_cached, .arena_pages = 1, .shadow_exits = 1})};

// The copy is made by the control as well.
SAMPLED_GUEST(guest_new, TOUCH(256) "mov $" ARENA "-0x1000, %r14d", "add $0x1000, %r14d\n" COPY_ROOT("%r14d"),
              SWITCH("%r14"))
const Declare new_root{
    paging_row({.name = "shadow.switch_new", .guest = guest_new, .arena_pages = 256, .most_rounds = 256})};

// Pages that fault one after the other, each mapped by the guest's handler: per page. One page: in a table
// that the guest is writing to anyway. Many: by a process that has just been switched to, whose tables are in
// step. The handler takes the address from RSI and not from CR2, which Bochs' SVM loses
// (conformance/departures.json).
GUEST(map_on_demand, "push %rax\n mov %rsi, %rax\n shr $9, %rax\n and $-8, %eax\n"
                     "orb $1, " ENTRY_OF_SHIFTED "(%rax)\n"
                     "pop %rax\n add $8, %rsp\n iretq")
#define DEMAND(pages, rounds, all, setup)                                                                    \
    SAMPLED_GUEST(guest_demand_##pages, CLEAR(all, "0xfe") RELOAD "mov $" ARENA "-0x1000, %esi", setup,      \
                  "mov $" #pages ", %ecx\n"                                                                  \
                  "5: add $0x1000, %esi\n mov (%rsi), %al\n dec %ecx\n jnz 5b")                              \
    const Declare demand_##pages{paging_row({.name = "shadow.demand_" #pages,                                \
                                             .guest = guest_demand_##pages,                                  \
                                             .page_fault = map_on_demand,                                    \
                                             .arena_pages = (all),                                           \
                                             .batch = (pages),                                               \
                                             .most_rounds = (rounds),                                        \
                                             .native = true})};
DEMAND(1, 512, 512, "")
DEMAND(16, 128, 2048, RELOAD)
DEMAND(256, 16, 4096, RELOAD)

// A chain of forks: each child is the next round's parent. Every eighth takes the memory of one long dead. A
// child has five pages behind the first 512 of the arena: PML4, PDPT, page directory and page table, whose
// other mappings are the parent's, and the copy of the page that it writes. R14 is the page table of the
// process that runs.
#define FIRST_CHILD "0x40600000"
#define LAST_CHILD "0x40623000"
#define PAGE_DIRECTORY "0x40004000"
GUEST(copy_on_write, "push %rax\n push %rcx\n push %rsi\n push %rdi\n"
                     "mov $" ARENA ", %esi\n lea 0x4000(%rbp), %edi\n mov $512, %ecx\n rep movsq\n"
                     "lea 0x4067(%rbp), %ecx\n mov %rcx, (%r14)\n"
                     "invlpg " ARENA "\n"
                     "pop %rdi\n pop %rsi\n pop %rcx\n pop %rax\n add $8, %rsp\n iretq")
#define FORK(leaves)                                                                                         \
    SAMPLED_GUEST(guest_fork_##leaves,                                                                       \
                  SET(512, "3") TOUCH(512 + 5 * 8) "mov $" ARENA_ENTRY ", %r14d\n"                           \
                                                   "mov $" LAST_CHILD ", %ebp",                              \
                  "add $0x5000, %ebp\n cmp $" LAST_CHILD ", %ebp\n jbe 5f\n mov $" FIRST_CHILD               \
                  ", %ebp\n 5:",                                                                             \
                  "lea 0x1027(%rbp), %eax\n mov %rax, (%rbp)\n"                                              \
                  "lea 0x2027(%rbp), %eax\n mov %rax, 0x1008(%rbp)\n"                                        \
                  "mov $" PAGE_DIRECTORY ", %esi\n lea 0x2000(%rbp), %edi\n mov $11, %ecx\n rep movsq\n"     \
                  "lea 0x3027(%rbp), %eax\n mov %rax, 0x2010(%rbp)\n"                                        \
                  "mov %r14d, %esi\n lea 0x3000(%rbp), %edi\n mov $" #leaves ", %ecx\n"                      \
                  "6: mov (%rsi), %rax\n and $~2, %rax\n mov %rax, (%rsi)\n mov %rax, (%rdi)\n"              \
                  "add $8, %esi\n add $8, %edi\n dec %ecx\n jnz 6b\n"                                        \
                  "lea 0x3000(%rbp), %r14d\n" SWITCH("%rbp") "\n"                                            \
                                                             "movb $1, " ARENA)                              \
    const Declare fork_##leaves{paging_row({.name = "shadow.fork_" #leaves,                                  \
                                            .guest = guest_fork_##leaves,                                    \
                                            .page_fault = copy_on_write,                                     \
                                            .arena_pages = 512 + 5 * 8,                                      \
                                            .most_rounds = 48})};
FORK(16)
FORK(512)

} // namespace

} // namespace refhv::bench
