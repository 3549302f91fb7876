// SPDX-License-Identifier: MIT
#include "refhv/front/guests/guest_chase.hpp"

#include <algorithm>

namespace refhv::front {

using Leaf = abi::PageSize;
namespace layout = client::layout;

namespace {

// The arena holds the order of the lines and the page tables; the lines stand 6 MBytes above the guest's
// base, and are mapped at `window` plus that, so that a 1-GByte page maps them from its own start.
#define ORDER REFHV_ASM(REFHV_ARENA)
constexpr u64 order_bytes = most_guest_lines * sizeof(u32);
constexpr u64 pdpt = layout::arena + order_bytes;
constexpr u64 page_directory = pdpt + page_size;
constexpr u64 page_tables = page_directory + page_size;
constexpr u64 lines_at = u64{6} << 20;
constexpr u64 most_bytes = u64{most_guest_lines} * chase_page;
constexpr u64 window = u64{1} << 39; // the second entry of the guest's PML4
constexpr u64 arena_pages = (order_bytes >> 12) + 2 + most_bytes / (512 * page_size);
constexpr u64 arena_end = layout::arena + arena_pages * page_size;

static_assert(arena_end <= layout::base + lines_at);
constexpr u64 table = 0x27; // P, W, U, A
constexpr u64 leaf = 0x7;   // P, W, U
constexpr u64 large = 0x80;

// RDI: where the lines begin; RBP: how many; R11, R14: the generator of microbench/rows/shadow_mix.cpp. RSI:
// the chase. ADDRESS makes RDX the address of line RAX, as offset_of() has it; RCX is lost.
#define SPREAD_ADDRESS                                                                                       \
    "mov %eax, %edx\n shr $4, %edx\n mov %eax, %ecx\n and $15, %ecx\n lea (%rdx,%rcx,4), %edx\n"             \
    "and $63, %edx\n shl $6, %edx\n shl $12, %rax\n add %rax, %rdx\n add %rdi, %rdx\n"
#define INSIDE_ADDRESS                                                                                       \
    "mov %eax, %edx\n shr $4, %edx\n mov %edx, %ecx\n shr $4, %ecx\n add %edx, %ecx\n and $3, %ecx\n"        \
    "and $15, %eax\n lea (%rcx,%rax,4), %eax\n shl $6, %eax\n shl $12, %rdx\n add %rax, %rdx\n"              \
    "add %rdi, %rdx\n"

#define CHASE_PREPARE(address)                                                                               \
    "xor %ecx, %ecx\n"                                                                                       \
    "3: mov %ecx, " ORDER "(,%rcx,4)\n inc %ecx\n cmp %ebp, %ecx\n jb 3b\n"                                  \
    "movabs $6364136223846793005, %r11\n mov $1, %r14d\n lea -1(%rbp), %ecx\n"                               \
    "4: imul %r11, %r14\n inc %r14\n mov %r14, %rax\n shr $32, %rax\n imul %rcx, %rax\n shr $32, %rax\n"     \
    "mov " ORDER "(,%rcx,4), %edx\n mov " ORDER "(,%rax,4), %ebx\n"                                          \
    "mov %ebx, " ORDER "(,%rcx,4)\n mov %edx, " ORDER "(,%rax,4)\n dec %ecx\n jnz 4b\n"                      \
    "xor %r15d, %r15d\n"                                                                                     \
    "5: mov %r15d, %eax\n" address "mov %rdx, %rbx\n mov " ORDER "(,%r15,4), %eax\n" address                 \
    "mov %rdx, (%rbx)\n inc %r15d\n cmp %ebp, %r15d\n jb 5b\n"                                               \
    "xor %eax, %eax\n" address "xor %ecx, %ecx\n mov %rdx, %rsi\n"                                           \
    "6: mov (%rsi), %rsi\n inc %ecx\n cmp %rdx, %rsi\n jne 6b\n"                                             \
    "cmp %ebp, %ecx\n je 7f\n ud2\n 7:"

#define CHASE "mov $128, %ecx\n 8: .rept 16\n mov (%rsi), %rsi\n .endr\n dec %ecx\n jnz 8b"

SAMPLED_GUEST(chase_spread, CHASE_PREPARE(SPREAD_ADDRESS), "", CHASE)
SAMPLED_GUEST(chase_inside, CHASE_PREPARE(INSIDE_ADDRESS), "", CHASE)
static_assert(chase_accesses == 128 * 16);

// Of the lines of a chase, whole pages of 2 MBytes.
constexpr u64 bytes_of(const GuestChase& chase) {
    constexpr u64 large_page = u64{2} << 20;
    const u64 pages = chase.layout == Layout::spread ? chase.lines : chase.lines / inside_lines + 1;
    return (pages * chase_page + large_page - 1) / large_page * large_page;
}

} // namespace

client::SampledGuest chase_code(Layout which) {
    return which == Layout::spread ? chase_spread : chase_inside;
}

void plan_chase(const GuestChase& chase, client::Plan& plan) {
    plan.mode = chase.mode;
    // A page of the guest's own stays whole where the memory under it is aligned like it: natively, and in
    // shadow tables, which have none of 1 GByte.
    plan.nested_page_size = chase.mode == abi::Mode::nested   ? chase.nested_page
                            : chase.mode == abi::Mode::shadow ? std::min(chase.page, Leaf::m2)
                                                              : chase.page;
    plan.arena_pages = arena_pages;
    plan.more_pages = (layout::base + lines_at + bytes_of(chase) - arena_end) / page_size;
}

Entries entries_of(const GuestChase& chase) {
    switch (chase.page) {
    case Leaf::k4:
        return {page_tables, bytes_of(chase) / page_size};
    case Leaf::m2:
        return {page_directory + 8 * (lines_at >> 21), bytes_of(chase) >> 21};
    default:
        return {pdpt, 1};
    }
}

void build_chase(const GuestChase& chase, client::Guest& guest, u64 flags) {
    const u64 lines = layout::base + lines_at;
    guest.fill(layout::pml4 + 8, pdpt | table, 0, 1, true);
    if (chase.page != Leaf::g1) {
        guest.fill(pdpt, page_directory | table, 0, 1, true);
    }
    const auto [gpa, count] = entries_of(chase);
    switch (chase.page) {
    case Leaf::k4:
        guest.fill(page_directory + 8 * (lines_at >> 21), page_tables | table, page_size,
                   bytes_of(chase) >> 21, true);
        guest.fill(gpa, lines | leaf | flags, page_size, count, true);
        break;
    case Leaf::m2:
        guest.fill(gpa, lines | leaf | large | flags, u64{2} << 20, count, true);
        break;
    default:
        guest.fill(gpa, layout::base | leaf | large | flags, 0, 1, true);
        break;
    }
    guest.state.gpr[abi::rdi] = window + lines_at;
    guest.state.gpr[abi::rbp] = chase.lines;
}

} // namespace refhv::front
