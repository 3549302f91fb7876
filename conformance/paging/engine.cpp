// SPDX-License-Identifier: MIT
#include "conformance/paging/engine.hpp"

#include "refhv/client/guest/guest.hpp"

#include <algorithm>

namespace refhv::front {

using abi::Mode;
using client::Guest;

namespace {

// The guest's memory, in the gap between its parameters and its code.
#define ENGINE "0x40012800"   // Engine
#define CONTROLS 0x40013000   // u64[], one page
#define SETS 0x40014000       // EntrySet[], up to the user's page
#define USER_STUBS 0x40018000 // the only page that ring 3 may touch, besides the target
#define TABLES 0x4001a000     // page table, page directory, PDPT, and with five levels a PML4, of the target
#define TARGET 0x4001f010     // #UD stands there, so that a fetch that succeeds is told from one that faults
#define OUTER 0x40019000      // PML5
#define STACK "0x40040000"

// Offsets in Engine, for the guest code.
#define E_SETS ENGINE "+0"
#define E_CONTROLS ENGINE "+8"
#define E_TARGET ENGINE "+16"
#define E_LEVELS ENGINE "+24"
#define E_PKU ENGINE "+32"
#define E_POINTS_TO ENGINE "+40"
#define E_TABLE ENGINE "+88"
#define E_REGION ENGINE "+136"
#define E_SLOT ENGINE "+144"
#define E_WANTED ENGINE "+192"
#define E_CR0 ENGINE "+240"
#define E_CR4 ENGINE "+248"
#define E_EFER ENGINE "+256"
#define E_PKRU ENGINE "+264"
#define E_LEFT ENGINE "+272"
#define E_LEAF ENGINE "+280"
#define E_SET_BEFORE ENGINE "+288"

struct Engine {
    u64 sets, controls;
    u64 target; // physical address to reach; the core relocates it in mode native
    u64 levels, has_pku;
    std::array<u64, 6> points_to; // [level]: entry of that level without rights, if it is no leaf; relocated
    std::array<u64, 6> table;     // [level]: where the table of that level is mapped
    u64 region;                   // linear address whose lower 30 bits become the target's
    std::array<u64, 6> slot, wanted;
    u64 cr0, cr4, efer, pkru; // as they were
    u64 sets_left, leaf;
    u64 set_before; // in a leaf without R/W
};
static_assert(offsetof(Engine, points_to) == 40 && offsetof(Engine, table) == 88);
static_assert(offsetof(Engine, region) == 136 && offsetof(Engine, slot) == 144);
static_assert(offsetof(Engine, wanted) == 192 && offsetof(Engine, cr0) == 240);
static_assert(offsetof(Engine, leaf) == 280 && offsetof(Engine, set_before) == 288);

constexpr u64 longest_run = u64{1} << 31; // TSC ticks; the longest batch takes a tenth of it on an emulator
constexpr u32 dirty = 1u << 6;
constexpr u64 engine_at = 0x4001'2800;
constexpr u64 invalid_opcode_at = REFHV_CODE + 64, page_fault_at = REFHV_CODE + 128;
constexpr u64 region_4_levels = (u64{3} << 39) | (u64{5} << 30),
              region_5_levels = region_4_levels | u64{1} << 48;

// Stubs of 8 bytes in the order of Try. The instruction behind a success is an undefined one.
#define STUBS                                                                                                \
    ".balign 8\n movb (%rdi), %al\n ud2\n"                                                                   \
    ".balign 8\n movb $0x0f, (%rdi)\n ud2\n" /* the byte that stands there */                                \
    ".balign 8\n jmp *%rdi\n .balign 8\n"

GUEST(user_stubs, STUBS)

// rdi: the address. rbx: the control. r13: the set. r14: next control. r15: next result. ebp: the try. r8 and
// r9: RIP of the exception after a success and after a fault.
GUEST(
    engine_code,
    "jmp 10f\n"
    ".balign 64\n" // #UD: it went well
    "mov (%rsp), %rax\n xor %edx, %edx\n"
    "cmp %r8, %rax\n je 50f\n jmp 49f\n"
    ".balign 64\n" // #PF
    "mov (%rsp), %rdx\n mov 8(%rsp), %rax\n mov %cr2, %rcx\n"
    "mov %edx, %esi\n and $0x7f, %edx\n or $0x8000, %edx\n"
    "test $0xffffff80, %esi\n jnz 49f\n"
    "cmp %rdi, %rcx\n je 48f\n or $0x80, %edx\n"
    "48: cmp %r9, %rax\n je 50f\n"
    "49: or $0x4000, %edx\n"
    // What the access has left in the entries.
    "50: mov $" STACK ", %esp\n push $2\n popf\n"
    "mov " E_LEAF ", %ecx\n"
    "mov $0x100, %r10d\n dec %ecx\n shl %cl, %r10d\n inc %ecx\n"
    "mov $0x40, %r11d\n" // the dirty flag, at the leaf only
    "51: mov " E_SLOT "(,%rcx,8), %rsi\n mov (%rsi), %rax\n xor " E_WANTED "(,%rcx,8), %rax\n"
    "btr $5, %rax\n jnc 52f\n or %r10d, %edx\n"
    "52: test %r11, %rax\n jz 53f\n or $0x2000, %edx\n xor %r11, %rax\n"
    "53: test %rax, %rax\n jz 54f\n or $0x4000, %edx\n"
    "54: xor %r11d, %r11d\n add %r10d, %r10d\n inc %ecx\n"
    "cmp %ecx, " E_LEVELS "\n jae 51b\n"
    "mov %dx, (%r15)\n add $2, %r15\n"
    "inc %ebp\n cmp $6, %ebp\n jb 30f\n"
    "add $16, %r13\n decq " E_LEFT "\n jnz 20f\n"
    "decq " E_CONTROLS "\n jnz 11f\n"
    "jmp 60f\n"

    // Once: the address, the slots of its entries, the registers as they are.
    "10: mov " E_TARGET ", %rdi\n and $0x3fffffff, %edi\n or " E_REGION ", %rdi\n"
    "mov $1, %edx\n mov %rdi, %rax\n"
    "1: shr $9, %rax\n mov %rax, %rsi\n and $0xff8, %esi\n"
    "add " E_TABLE "(,%rdx,8), %rsi\n mov %rsi, " E_SLOT "(,%rdx,8)\n"
    "inc %edx\n cmp %edx, " E_LEVELS "\n jae 1b\n"
    "mov %cr0, %rax\n mov %rax, " E_CR0 "\n"
    "mov %cr4, %rax\n mov %rax, " E_CR4 "\n"
    "mov $0xc0000080, %ecx\n rdmsr\n mov %eax, " E_EFER "\n mov %edx, " E_EFER "+4\n"
    "cmpl $0, " E_PKU "\n je 2f\n"
    "mov %cr4, %rax\n bts $22, %rax\n mov %rax, %cr4\n xor %ecx, %ecx\n rdpkru\n mov %eax, " E_PKRU "\n"
    "2: mov $" REFHV_ASM(CONTROLS) ", %r14d\n mov $" REFHV_ASM(
        REFHV_SAMPLES) ", %r15d\n"

                       // Each control.
                       "11: mov (%r14), %rbx\n add $8, %r14\n"
                       "cmpl $0, " E_PKU "\n je 12f\n"
                       "mov %cr4, %rax\n bts $22, %rax\n mov %rax, %cr4\n"
                       "mov %rbx, %rax\n shr $32, %rax\n xor %ecx, %ecx\n xor %edx, %edx\n wrpkru\n"
                       "12: mov " E_CR4 ", %rax\n and $~0x700000, %eax\n"
                       "mov %ebx, %ecx\n shr $2, %ecx\n and $3, %ecx\n shl $20, %ecx\n or %rcx, %rax\n" // SMEP,
                                                                                                        // SMAP
                       "mov %ebx, %ecx\n shr $5, %ecx\n and $1, %ecx\n shl $22, %ecx\n or %rcx, %rax\n" // PKE
                       "mov %rax, %cr4\n"
                       "mov " E_CR0 ", %rax\n btr $16, %rax\n test $1, %bl\n jz 13f\n bts $16, %rax\n"
                       "13: mov %rax, %cr0\n"
                       "mov " E_EFER ", %eax\n mov " E_EFER
                       "+4, %edx\n btr $11, %eax\n test $2, %bl\n jz 14f\n bts $11, %eax\n"
                       "14: mov $0xc0000080, %ecx\n wrmsr\n"
                       "mov $" REFHV_ASM(
                           SETS) ", %r13d\n mov " E_SETS ", %rax\n mov %rax, " E_LEFT "\n"

                                 // Each set: its entries in full.
                                 "20: movzwl 12(%r13), %ecx\n mov %ecx, " E_LEAF "\n"
                                 "lea (%ecx,%ecx,8), %ecx\n add $3, %ecx\n" // 12 + 9 (leaf - 1)
                                 "mov " E_TARGET ", %rax\n shr %cl, %rax\n shl %cl, %rax\n"
                                 "mov " E_LEAF ", %edx\n cmp $1, %edx\n je 22f\n or $0x80, %eax\n jmp 22f\n"
                                 "21: mov " E_POINTS_TO "(,%rdx,8), %rax\n"
                                 "22: movzwl (%r13,%rdx,2), %esi\n"
                                 "mov %esi, %ecx\n and $7, %ecx\n or %rcx, %rax\n"
                                 "bt $3, %esi\n jnc 23f\n bts $63, %rax\n"
                                 "23: mov %esi, %ecx\n shr $4, %ecx\n and $15, %ecx\n shl $59, %rcx\n or "
                                 "%rcx, %rax\n"
                                 "mov %esi, %ecx\n shr $8, %ecx\n and $63, %ecx\n jz 24f\n bts %rcx, %rax\n"
                                 "24: cmp %edx, " E_LEAF "\n jne 25f\n test $2, %al\n jnz 25f\n"
                                 "or " E_SET_BEFORE ", %rax\n"
                                 "25: mov %rax, " E_WANTED "(,%rdx,8)\n inc %edx\n cmp %edx, " E_LEVELS
                                 "\n jae 21b\n"
                                 "xor %ebp, %ebp\n"

                                 // Each try, on entries not used before.
                                 "30: mov " E_LEAF ", %edx\n"
                                 "31: mov " E_SLOT "(,%rdx,8), %rsi\n mov " E_WANTED
                                 "(,%rdx,8), %rax\n mov %rax, (%rsi)\n"
                                 "inc %edx\n cmp %edx, " E_LEVELS "\n jae 31b\n"
                                 "invlpg (%rdi)\n"
                                 "mov %ebp, %eax\n lea 70f(%rip), %rsi\n cmp $3, %ebp\n jb 32f\n"
                                 "sub $3, %eax\n mov $" REFHV_ASM(
                                     USER_STUBS) ", %esi\n"
                                                 "32: lea (%rsi,%rax,8), %rsi\n"
                                                 "mov %rsi, %r9\n lea 2(%rsi,%rax), %r8\n" // a read is two
                                                                                           // bytes long, a
                                                                                           // write three
                                                 "cmp $2, %eax\n jne 33f\n mov %rdi, %r8\n mov %rdi, %r9\n"
                                                 "33: mov %ebx, %ecx\n and $0x10, %ecx\n shl $14, %ecx\n or "
                                                 "$2, %ecx\n" // RFLAGS.AC
                                                 "cmp $3, %ebp\n jae 34f\n"
                                                 "push %rcx\n popf\n jmp *%rsi\n"
                                                 "34: push $0x23\n push $" STACK
                                                 "\n push %rcx\n push $0x1b\n push %rsi\n iretq\n"

                                                 ".balign 8\n 70: " STUBS
                                                 // Everything as it was.
                                                 "60: mov " E_LEVELS ", %edx\n mov " E_SLOT
                                                 "(,%rdx,8), %rsi\n movq $0, (%rsi)\n invlpg (%rdi)\n"
                                                 "cmpl $0, " E_PKU "\n je 61f\n"
                                                 "mov %cr4, %rax\n bts $22, %rax\n mov %rax, %cr4\n"
                                                 "mov " E_PKRU
                                                 ", %eax\n xor %ecx, %ecx\n xor %edx, %edx\n wrpkru\n"
                                                 "61: mov " E_CR4 ", %rax\n mov %rax, %cr4\n"
                                                 "mov " E_CR0 ", %rax\n mov %rax, %cr0\n"
                                                 "mov " E_EFER ", %eax\n mov " E_EFER
                                                 "+4, %edx\n mov $0xc0000080, %ecx\n wrmsr\n")

template <class T>
std::span<const u8> bytes_of(const T& object) {
    return {reinterpret_cast<const u8*>(&object), sizeof object};
}

// All of the guest is the supervisor's but the user's stubs.
void lay_out(Guest& guest, const PagingMachine& machine) {
    constexpr u64 supervisor_page = 0x63, user_page = 0x67, table_entry = 0x67,
                  entries = client::layout::base_pages;
    guest.fill(client::layout::page_tables, client::layout::base | supervisor_page, page_size, entries, true);
    const u64 stubs_entry = client::layout::page_tables + (USER_STUBS - client::layout::base) / page_size * 8;
    guest.fill(stubs_entry, USER_STUBS | user_page, 0, 1, true);
    guest.write(USER_STUBS, user_stubs.bytes());
    constexpr u16 undefined_instruction = 0x0b0f;
    guest.write(TARGET, bytes_of(undefined_instruction));
    guest.fill(TABLES, 0, 0, 4 * page_size / 8, false);
    if (machine.levels == 5) {
        guest.fill(OUTER, 0, 0, page_size / 8, false);
        guest.fill(OUTER, client::layout::pml4 | table_entry, 0, 1, true);
        guest.state.cr3 = OUTER;
        guest.state.cr4 |= u64{1} << 12; // CR4.LA57
    }
    for (const auto& [vector, at] : {std::pair{6u, invalid_opcode_at}, {14u, page_fault_at}}) {
        guest.gate(vector, at);
    }
}

void write_parameters(Guest& guest, const PagingMachine& machine, const PagingBatch& batch) {
    Engine engine{
        .sets = batch.sets.size(),
        .controls = batch.controls.size(),
        .target = 0,
        .levels = machine.levels,
        .has_pku = machine.has_pku,
        .points_to = {},
        .table = {0, TABLES, TABLES + page_size, TABLES + 2 * page_size, client::layout::pml4, OUTER},
        .region = machine.levels == 5 ? region_5_levels : region_4_levels,
        .slot = {},
        .wanted = {},
        .cr0 = 0,
        .cr4 = 0,
        .efer = 0,
        .pkru = 0,
        .sets_left = 0,
        .leaf = 0,
        .set_before = machine.has_cet ? u64{dirty} : 0};
    if (machine.levels == 5) {
        engine.table[4] = TABLES + 3 * page_size;
    }
    guest.write(engine_at, bytes_of(engine));
    guest.fill(engine_at + offsetof(Engine, target), TARGET, 0, 1, true);
    // An entry of level 2 points to the table of level 1, and so on.
    guest.fill(engine_at + offsetof(Engine, points_to) + 2 * sizeof(u64), TABLES, page_size, 4, true);
    guest.write(SETS, {reinterpret_cast<const u8*>(batch.sets.data()), batch.sets.size() * sizeof(EntrySet)});
    guest.write(CONTROLS,
                {reinterpret_cast<const u8*>(batch.controls.data()), batch.controls.size() * sizeof(u64)});
}

} // namespace

std::vector<u16> try_all(client::GuestHost& host, Mode mode, const PagingMachine& machine,
                         const PagingBatch& batch) {
    const u64 result_bytes = batch.combinations() * sizeof(u16);
    if (batch.sets.size() * sizeof(EntrySet) > USER_STUBS - SETS ||
        batch.controls.size() * sizeof(u64) > page_size ||
        result_bytes > client::layout::sample_pages * page_size) {
        throw std::length_error("the batch does not fit the guest");
    }
    client::Plan plan;
    plan.mode = mode;
    plan.sample_pages = client::layout::sample_pages;
    for (const abi::Reason reason : {abi::Reason::rdmsr, abi::Reason::wrmsr}) { // IA32_EFER
        plan.policy.push_back({.reason = static_cast<u16>(reason),
                               .action = static_cast<u8>(abi::Action::emulate),
                               .length = 2,
                               .event = 0});
    }
    Guest guest(host, plan);
    guest.patience = std::chrono::minutes(2);
    lay_out(guest, machine);
    write_parameters(guest, machine, batch);
    guest.load(engine_code);
    const auto r = guest.run({.deadline = longest_run});
    const auto reason = static_cast<abi::Reason>(r.reply.exit.reason);
    if (r.outcome != abi::Outcome::exited || r.exceptions.count != 0 ||
        reason != (mode == Mode::native ? abi::Reason::int_n : abi::Reason::hlt)) {
        throw EngineStopped("the table's guest ended by " + std::string(client::name_of(reason)) +
                            " at RIP " + std::to_string(r.reply.state.rip) + ", exception " +
                            std::to_string(r.exceptions.vector) + " at " + std::to_string(r.exceptions.rip));
    }
    if (r.reply.host_changed != 0) {
        throw EngineStopped("HostState bits changed: " + std::to_string(r.reply.host_changed));
    }
    constexpr u64 words = u64{1} << 16; // a reply
    std::vector<u16> results(batch.combinations() + 3);
    for (u64 done = 0; done < result_bytes; done += words * 8) {
        const auto some =
            guest.read64(client::layout::samples + done, std::min(words, (result_bytes - done + 7) / 8));
        __builtin_memcpy(reinterpret_cast<u8*>(results.data()) + done, some.data(),
                         some.size() * sizeof some[0]);
    }
    results.resize(batch.combinations());
    return results;
}

} // namespace refhv::front
