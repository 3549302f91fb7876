// SPDX-License-Identifier: MIT
// Pieces of guests that change their own page tables. RSI walks over the pages of the arena, RDI over their
// page-table entries; the entry of an address is found by a shift, for guest-virtual is guest-physical.
#pragma once

#include "microbench/measure/row.hpp"

#define ARENA REFHV_ASM(REFHV_ARENA)
#define ARENA_ENTRY REFHV_ASM(REFHV_ARENA_ENTRY)
#define ROOT "0x40002000"

// page_tables - (base >> 9): with address >> 9 added, less its low three bits, the address of the entry.
#define ENTRY_OF_SHIFTED "0x3fe05000"

// AND or OR into the low byte of the first `pages` entries.
#define CLEAR(pages, mask)                                                                                   \
    "mov $" ARENA_ENTRY ", %edi\n mov $" #pages ", %ecx\n"                                                   \
    "3: andb $" mask ", (%rdi)\n add $8, %edi\n dec %ecx\n jnz 3b\n"
#define SET(pages, mask)                                                                                     \
    "mov $" ARENA_ENTRY ", %edi\n mov $" #pages ", %ecx\n"                                                   \
    "3: orb $" mask ", (%rdi)\n add $8, %edi\n dec %ecx\n jnz 3b\n"
// Writes to each of the first pages, so that whatever caches translations has them, writable.
#define TOUCH(pages)                                                                                         \
    "mov $" ARENA ", %esi\n mov $(" #pages "), %ecx\n"                                                       \
    "3: movb $0, (%rsi)\n add $0x1000, %esi\n dec %ecx\n jnz 3b\n"
#define RELOAD "mov %cr3, %rax\n mov %rax, %cr3\n"
// A copy of the guest's PML4.
#define COPY_ROOT(to) "mov $" ROOT ", %esi\n mov " to ", %edi\n mov $512, %ecx\n rep movsq\n"

#define FIRST_PAGE "mov $" ARENA "-0x1000, %esi\n mov $" ARENA_ENTRY "-8, %edi\n"
#define NEXT_PAGE "add $0x1000, %esi\n add $8, %edi"

namespace refhv::bench {

static_assert(client::layout::pml4 == 0x4000'2000);
static_assert(client::layout::page_tables - (client::layout::base >> 9) == 0x3fe0'5000);

// A row about the guest's own paging, with the claims that all of them rest on.
[[nodiscard]] inline Row paging_row(Row row) {
    row.paging = true;
    row.rests_on = {"Paging.paging_invlpg_shows_an_entry_that_is_not_present",
                    "Paging.paging_write_protect_binds_the_supervisor",
                    "Paging.paging_accessed_and_dirty_follow_the_access",
                    "Paging.paging_shadow_takes_no_exits_once_warm",
                    "Paging.paging_shadow_reloads_a_cached_root_in_one_exit"};
    row.rests_on_in_mode = {"PagingTable.paging_rights_of_4k_pages_"};
    return row;
}

} // namespace refhv::bench
