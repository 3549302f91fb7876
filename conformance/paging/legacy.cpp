// SPDX-License-Identifier: MIT
// Guests outside long mode: PAE paging, 32-bit paging, no paging. Each case writes a page-directory entry and
// a page-table entry, invalidates the page and makes one access; the guest counts through the cases itself
// and writes down what came of each. An oracle that knows the tables of the manual only
// (core/reference_walk.hpp) says what is due.
#include "conformance/paging/legacy_guest.hpp"
#include "conformance/test/core/reference_walk.hpp"

namespace refhv::front {

using abi::Mode;
using client::RunResult;
using shadow::PagingState;
using namespace legacy;

namespace {

// Bits of a case's number.
enum Case : unsigned {
    pte_bits = 0, // P, RW, US
    pde_bits = 3,
    write_bit = 6,
    fetch_bit = 7,
    user_bit = 8,
    wp_bit = 9,
    nx_bit = 10, // of the page-table entry, in its upper half
};
constexpr u32 cases_without_nx = 1u << nx_bit, cases_with_nx = 2u << nx_bit;

struct Outcome { // what the guest writes down
    u32 error;   // of the #PF; ~0: none
    u32 pte, pde, zero;
};
constexpr u32 no_fault = ~u32{0};

// EBX and EBP: where the page-table and the directory entry lie; ESI: where the next Outcome goes.
#define PARAMETER(n) REFHV_ASM(REFHV_SCRATCH) "+" #n
#define CASE PARAMETER(0)
#define END PARAMETER(4)
#define SAVED_ESP PARAMETER(8)
#define TABLE_ENTRY PARAMETER(12)
#define DIRECTORY_ENTRY PARAMETER(16)
#define WITHOUT_RW PARAMETER(20)
#define CPL_3 REFHV_ASM(REFHV_CODE) "+48"
GUEST(guest_cases,
      ".code32\n jmp 8f\n"
      ".balign 16\n" // +16: #PF
      "pop %eax\n mov %eax, (%esi)\n jmp 7f\n"
      ".balign 16\n" // +32: #UD, from CPL 3
      "jmp 7f\n"
      ".balign 16\n" // +48: at CPL 3
      "mov " CASE ", %eax\n test $0x80, %eax\n jnz 1f\n test $0x40, %eax\n jnz 2f\n"
      "mov 0x50200040, %ecx\n ud2\n"
      "2: mov %ecx, 0x50200040\n ud2\n"
      "1: mov $0x50200010, %ecx\n jmp *%ecx\n"
      "8: mov " CASE ", %edx\n"
      "mov %edx, %eax\n and $7, %eax\n test $2, %al\n jnz 1f\n or " WITHOUT_RW ", %eax\n"
      "1: or " TABLE_ENTRY ", %eax\n mov %eax, (%ebx)\n"
      "mov %edx, %eax\n shr $10, %eax\n shl $31, %eax\n mov %eax, 4(%ebx)\n"
      "mov %edx, %eax\n shr $3, %eax\n and $7, %eax\n test $2, %al\n jnz 1f\n or " WITHOUT_RW ", %eax\n"
      "1: or " DIRECTORY_ENTRY ", %eax\n mov %eax, (%ebp)\n"
      "mov %cr0, %eax\n btr $16, %eax\n bt $9, %edx\n jnc 1f\n bts $16, %eax\n 1: mov %eax, %cr0\n"
      "invlpg 0x50200040\n"
      "movl $-1, (%esi)\n mov %esp, " SAVED_ESP "\n"
      "bt $8, %edx\n jc 3f\n bt $7, %edx\n jc 4f\n bt $6, %edx\n jc 5f\n"
      "mov 0x50200040, %ecx\n jmp 7f\n"
      "5: mov %ecx, 0x50200040\n jmp 7f\n"
      "4: mov $0x50200000, %ecx\n call *%ecx\n jmp 7f\n"
      "3: push $0x23\n push %esp\n pushf\n push $0x1b\n push $" CPL_3 "\n iret\n"
      "7: mov " SAVED_ESP ", %esp\n"
      "mov (%ebx), %eax\n mov %eax, 4(%esi)\n mov (%ebp), %eax\n mov %eax, 8(%esi)\n"
      "add $16, %esi\n incl " CASE "\n mov " CASE ", %eax\n cmp " END ", %eax\n jb 8b\n"
      ".code64\n")

// EAX is loaded into CR3; #GP goes to +16 here.
GUEST(guest_load_cr3, ".code32\n jmp 8f\n"
                      ".balign 16\n pop %ebx\n mov $13, %edi\n jmp 7f\n"
                      "8: mov %eax, %cr3\n mov %cr3, %ecx\n 7:\n .code64\n")

// Paging off, a store below its address under paging, paging on.
GUEST(guest_toggle, ".code32\n jmp 8f\n .balign 16\n pop %ebx\n mov $14, %edi\n jmp 7f\n"
                    "8: mov 0x50000040, %edx\n"
                    "mov %cr0, %eax\n btr $31, %eax\n mov %eax, %cr0\n"
                    "movl $0x1234567, " REFHV_ASM(REFHV_GUEST_BASE) "+0x40\n"
                                                                    "mov %cr0, %esi\n"
                                                                    "bts $31, %eax\n mov %eax, %cr0\n"
                                                                    "mov 0x50000040, %ebp\n 7:\n .code64\n")

class PagingLegacy : public PagingClaim {
  protected:
    // In entries without R/W.
    static u32 set_before() { return open_dirty_flag(hello()) ? u32{d} : 0; }

    // What is due for case n.
    static void check_case(const PagingState& regs, u64 pte_base, u64 pde_base, u32 n, const Outcome& got,
                           const LegacyGuest& g) {
        PagingState s = regs;
        s.cr0 = (n >> wp_bit & 1) != 0 ? s.cr0 | 1u << 16 : s.cr0 & ~u64{1u << 16};
        const u64 nx = u64{n >> nx_bit & 1} << 63;
        const auto entry = [](u64 base, u32 rights) {
            return base | rights | ((rights & rw) == 0 ? set_before() : 0);
        };
        const u64 pte = entry(pte_base, n >> pte_bits & 7) | nx, pde = entry(pde_base, n >> pde_bits & 7);
        const bool fetch = (n >> fetch_bit & 1) != 0;
        const shadow::Access access{
            .write = (n >> write_bit & 1) != 0 && !fetch, .fetch = fetch, .user = (n >> user_bit & 1) != 0};
        const auto walk = shadow::reference::walk_tables(s, at::address, [&](u64 where, unsigned) {
            return std::optional<u64>(where == g.pde_slot() ? pde : pte);
        });
        const auto due = shadow::reference::judge(s, walk, at::address, access);
        ASSERT_EQ(got.error, due.ok ? no_fault : due.error)
            << "case " << std::hex << n << ", entries " << pte << " and " << pde;
        const bool large = walk.entries.size() == 1;
        const u64 dirty = access.write ? d : 0;
        if (due.ok) {
            ASSERT_EQ(got.pde, static_cast<u32>(pde | a | (large ? dirty : 0))) << "case " << std::hex << n;
            ASSERT_EQ(got.pte, static_cast<u32>(large ? pte : pte | a | dirty)) << "case " << std::hex << n;
        } else { // whether an access that faults sets accessed flags is the model's business (SDM 3A 4.8)
            ASSERT_EQ(((got.pde & ~pde) | (got.pte & ~pte)) & d, 0u) << "case " << std::hex << n;
        }
    }

    // All cases under one pair of entries. Returns how many.
    static u64 run_cases(Mode mode, bool pae, u64 pte_base, u64 pde_base) {
        LegacyGuest g(host(), mode, pae, on_svm());
        const u32 count = pae ? cases_with_nx : cases_without_nx;
        const u32 parameters[] = {
            0, count, 0, static_cast<u32>(pte_base), static_cast<u32>(pde_base), set_before()};
        g.guest.write(at::parameters, bytes_of(parameters));
        abi::GuestState& s = g.guest.state;
        s.gpr[abi::rbx] = g.pte_slot();
        s.gpr[abi::rbp] = g.pde_slot();
        s.gpr[abi::rsi] = at::results;
        g.guest.load(guest_cases);
        expect_stopped(g.guest.run({}));
        const PagingState regs{.cr0 = s.cr0,
                               .cr3 = s.cr3,
                               .cr4 = s.cr4,
                               .efer = s.efer,
                               .rflags = 2,
                               .pdpte = {0, at::directory | p, 0, 0},
                               .pkru = 0,
                               .physical_bits = 36, // no case has address bits beyond
                               .has_1g_pages = false,
                               .has_pse36 = true};
        const std::vector<u64> results = g.guest.read64(at::results, u64{count} * 2);
        for (u32 n = 0; n < count && !HasFatalFailure(); ++n) {
            Outcome got;
            __builtin_memcpy(&got, &results[2 * n], sizeof got);
            check_case(regs, pte_base, pde_base, n, got, g);
        }
        return count;
    }

    void check_all(bool pae, std::initializer_list<u64> pde_bases) {
        in_every_mode([&](Mode mode) {
            u64 tried = 0;
            for (const u64 pde_base : pde_bases) {
                tried += run_cases(mode, pae, at::page, pde_base);
            }
            return tried;
        });
    }
};

} // namespace

TEST_F(PagingLegacy, paging_pae_guest_agrees_with_its_tables) {
    claim({"SDM 3A 4.4.2, 4.6, 4.7, 4.8", "APM 2 5.2.2, 5.6, 8.4.2"}, [&] {
        check_all(true, {at::table, at::page | ps});
    });
}

TEST_F(PagingLegacy, paging_32_bit_guest_agrees_with_its_tables) {
    claim({"SDM 3A 4.3, 4.6, 4.7, 4.8", "APM 2 5.2.1, 5.6, 8.4.2"}, [&] {
        check_all(false, {at::table, at::page | ps});
    });
}

TEST_F(PagingLegacy, paging_pae_reserved_bit_is_told_in_the_error_code) {
    claim({"SDM 3A 4.4.2, 4.7", "APM 2 5.2.2, 8.4.2"}, [&] { check_all(true, {at::page | ps | 1u << 13}); });
}

TEST_F(PagingLegacy, paging_32_bit_reserved_bit_is_told_in_the_error_code) {
    claim({"SDM 3A 4.3, 4.7", "APM 2 5.2.1, 8.4.2"}, [&] { check_all(false, {at::page | ps | 1u << 21}); });
}

// Under nested paging an AMD CPU reads the PDPTEs when it needs them (APM 2 15.25.10), so only what MOV to
// CR3 itself must see is checked there.
TEST_F(PagingLegacy, paging_pdpte_with_reserved_bits_is_a_general_protection_fault) {
    claim({"SDM 3A 4.4.1", "APM 2 5.2.2"}, [&] {
        in_every_mode([&](Mode mode) {
            const unsigned end = mode == Mode::nested && on_svm() ? 0 : 12;
            for (unsigned bit = 1; bit < end; ++bit) {
                SCOPED_TRACE("bit " + std::to_string(bit));
                LegacyGuest g(host(), mode, true, on_svm());
                const u64 other = at::pdpt + 0x40;
                const u64 pdpt[4] = {0, at::directory | p, at::directory | p | u64{1} << bit, 0};
                g.guest.write(other, bytes_of(pdpt));
                g.guest.state.gpr[abi::rax] = other;
                g.guest.load(guest_load_cr3);
                const RunResult r = g.guest.run({});
                expect_stopped(r);
                const bool reserved = bit <= 2 || (bit >= 5 && bit <= 8);
                EXPECT_EQ(r.reply.state.gpr[abi::rdi], reserved ? 13u : 0u);
                EXPECT_EQ(r.reply.state.cr3, reserved ? at::pdpt : other);
            }
            return end;
        });
    });
}

TEST_F(PagingLegacy, paging_goes_off_and_on_again) {
    claim({"SDM 3A 4.1.2, 4.4.1", "APM 2 3.1.1"}, [&] {
        for (const Mode mode : {Mode::shadow, Mode::vtlb}) { // nested: VMX wants an unrestricted guest for it
            SCOPED_TRACE(client::name_of(mode));
            for (const bool pae : {false, true}) {
                SCOPED_TRACE(pae ? "PAE" : "32-bit");
                LegacyGuest g(host(), mode, pae, on_svm());
                constexpr u64 toggled = 0x5000'0000; // what guest_toggle reads
                const u64 pde = at::page | all | ps;
                g.guest.write(g.pde_slot(toggled), bytes_of(pde).first(pae ? 8 : 4));
                g.guest.load(guest_toggle);
                const RunResult r = g.guest.run({});
                expect_stopped(r);
                EXPECT_EQ(r.reply.state.gpr[abi::rdi], 0u) << "no exception";
                EXPECT_EQ(r.reply.state.gpr[abi::rsi] >> 31, 0u) << "the guest reads CR0.PG = 0";
                EXPECT_NE(r.reply.state.gpr[abi::rdx], 0x123'4567u);
                EXPECT_EQ(r.reply.state.gpr[abi::rbp], 0x123'4567u) << "stored by its physical address";
            }
        }
        combinations(4);
    });
}

} // namespace refhv::front
