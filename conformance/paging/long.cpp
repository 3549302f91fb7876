// SPDX-License-Identifier: MIT
// What long mode adds to paging, where the CPU has it: five levels, protection keys, SMAP without CR0.WP,
// PCID.
#include "conformance/paging/claim.hpp"
#include "conformance/test/core/reference_walk.hpp"

namespace refhv::front {

using abi::Mode;
using client::Guest;
using client::RunResult;
using shadow::PagingState;

namespace {

constexpr u64 p = 1, rw = 2, us = 4, accessed = 1u << 5, dirty = 1u << 6;
constexpr u64 table_bits = p | rw | us | accessed;
constexpr u64 cr4_la57 = 1u << 12, cr4_pcide = 1u << 17, cr4_smap = 1u << 21, cr4_pke = 1u << 22;
constexpr u64 rflags_ac = 1u << 18;

// The arena's pages: IDT, a root, and the tables of the address under test.
constexpr u64 arena = client::layout::arena, idt = arena, root5 = arena + 0x1000, tables = arena + 0x2000;
constexpr u64 page = client::layout::base; // what that address is mapped to
constexpr u64 results = client::layout::samples;

// Bits of a case's number: P, RW, US of the page-table entry, then these, then AD and WD of key 1.
constexpr unsigned write_bit = 3, user_bit = 4, wp_bit = 5, key_bit = 6;

// RSI: where the next result goes; RDI: cases; RBX: the page-table entry; R9: the address; R10: the entry
// without its low bits; R11: not 0 if there are keys. A result is the error code, ~0 without a #PF, and the
// lower half of the entry. R13: what an entry without RW has besides.
GUEST(guest_cases,
      "jmp 8f\n"
      ".balign 16\n" // +16: #PF
      "pop %rax\n mov %eax, (%rsi)\n jmp 7f\n"
      ".balign 16\n" // +32: #UD, from CPL 3
      "jmp 7f\n"
      ".balign 16\n" // +48: at CPL 3
      "bt $3, %r8\n jc 1f\n mov (%r9), %ecx\n ud2\n"
      "1: mov %ecx, (%r9)\n ud2\n"
      "8: xor %r8d, %r8d\n"
      "6: mov %r8, %rax\n and $7, %eax\n test $2, %al\n jnz 1f\n or %r13, %rax\n"
      "1: or %r10, %rax\n mov %rax, (%rbx)\n invlpg (%r9)\n"
      "mov %cr0, %rax\n btr $16, %rax\n bt $5, %r8\n jnc 1f\n bts $16, %rax\n 1: mov %rax, %cr0\n"
      "test %r11, %r11\n jz 2f\n"
      "mov %r8d, %eax\n shr $6, %eax\n shl $2, %eax\n xor %ecx, %ecx\n xor %edx, %edx\n wrpkru\n"
      "2: movl $-1, (%rsi)\n mov %rsp, %r12\n"
      "bt $4, %r8\n jc 3f\n bt $3, %r8\n jc 4f\n"
      "mov (%r9), %ecx\n jmp 7f\n"
      "4: mov %ecx, (%r9)\n jmp 7f\n"
      "3: push $0x23\n push %r12\n pushf\n push $0x1b\n push $" REFHV_ASM(
          REFHV_CODE) "+48\n iretq\n"
                      "7: mov %r12, %rsp\n"
                      "mov (%rbx), %rax\n mov %eax, 4(%rsi)\n"
                      "add $8, %rsi\n inc %r8\n cmp %rdi, %r8\n jb 6b\n")

// The page is the user's and read-only, CR0.WP = 0, AC = 1. What may fault is 7 bytes long.
#define PAGE "0x40013000"
GUEST(guest_smap, "mov %esp, " PAGE "\n clac\n mov " PAGE ", %ecx\n stac\n mov " PAGE ", %ecx\n")
// Key 1 on that page: WD lets the supervisor's write through while WP = 0, AD never.
GUEST(guest_key,
      "xor %ecx, %ecx\n xor %edx, %edx\n mov $8, %eax\n wrpkru\n mov %esp, " PAGE "\n"
      "mov $4, %eax\n wrpkru\n mov " PAGE ", %ebx\n xor %eax, %eax\n wrpkru\n mov " PAGE ", %ebx\n")

// INVPCID of type RDI with the descriptor at RSI, 7 bytes long with its prefixes.
GUEST(guest_invpcid,
      "mov " PAGE ", %ecx\n mov %rbx, 0x40005098\n ds\n ds invpcid (%rsi), %rdi\n mov " PAGE ", %ecx\n")

class PagingLong : public PagingClaim {
  protected:
    enum class Register : u8 {
        ebx,
        ecx,
    };
    static bool has_leaf_7(Register reg, unsigned bit) {
        for (const abi::CpuidLeaf& leaf : hello().cpuid) {
            if (leaf.leaf == 7 && leaf.subleaf == 0) {
                return ((reg == Register::ebx ? leaf.ebx : leaf.ecx) >> bit & 1) != 0;
            }
        }
        return false;
    }

    // A guest whose own handlers take #UD and #PF, with a path of tables to the address under test.
    static Guest case_guest(Mode mode, bool five_levels, u64 address) {
        Guest guest(host(), {.mode = mode, .arena_pages = 16});
        for (const auto& [vector, behind] : {std::pair<u64, u64>{6, 32}, {14, 16}}) {
            guest.write(idt + 16 * vector, bytes_of(client::interrupt_gate(client::layout::code + behind)));
        }
        guest.state.idtr = {idt, 0xfff, 0};
        const auto index = [&](unsigned level) { return address >> (12 + 9 * (level - 1)) & 511; };
        const auto point = [&](u64 table, unsigned level, u64 to) {
            const u64 entry = to | table_bits;
            guest.write(table + 8 * index(level), bytes_of(entry));
        };
        if (five_levels) {
            const u64 first = client::layout::pml4 | table_bits;
            guest.write(root5, bytes_of(first));
            point(root5, 5, tables + 0x3000);
            guest.state.cr3 = root5;
            guest.state.cr4 |= cr4_la57;
        }
        point(five_levels ? tables + 0x3000 : client::layout::pml4, 4, tables + 0x2000);
        point(tables + 0x2000, 3, tables + 0x1000);
        point(tables + 0x1000, 2, tables);
        return guest;
    }

    // Besides, in a leaf without RW.
    static u64 without_rw() { return open_dirty_flag(hello()) ? dirty : 0; }

    // All cases, `bits` of their number in use. Returns how many.
    static u64 run_cases(Guest guest, u64 address, u64 entry, unsigned bits, bool keys) {
        abi::GuestState& s = guest.state;
        const u64 slot = tables + 8 * (address >> 12 & 511), count = u64{1} << bits;
        s.gpr[abi::rsi] = results;
        s.gpr[abi::rdi] = count;
        s.gpr[abi::rbx] = slot;
        s.gpr[abi::r9] = address;
        s.gpr[abi::r10] = entry;
        s.gpr[abi::r11] = keys ? 1 : 0;
        s.gpr[abi::r13] = without_rw();
        s.cr4 |= keys ? cr4_pke : 0;
        guest.load(guest_cases);
        expect_stopped(guest.run({}));
        const std::vector<u64> got = guest.read64(results, count);
        for (u64 n = 0; n < count && !HasFatalFailure(); ++n) {
            check_case(s, address, slot, entry | (n & 7) | ((n & rw) != 0 ? 0 : without_rw()), n, got[n]);
        }
        return count;
    }

    static void check_case(const abi::GuestState& regs, u64 address, u64 slot, u64 entry, u64 n, u64 got) {
        const u32 pkru = static_cast<u32>(n >> key_bit & 3) << 2;
        const PagingState s{.cr0 = (n >> wp_bit & 1) != 0 ? regs.cr0 | 1u << 16 : regs.cr0 & ~u64{1u << 16},
                            .cr3 = regs.cr3,
                            .cr4 = regs.cr4,
                            .efer = regs.efer,
                            .rflags = 2,
                            .pdpte = {},
                            .pkru = pkru,
                            .physical_bits = 36,
                            .has_1g_pages = false,
                            .has_pse36 = true};
        const shadow::Access access{
            .write = (n >> write_bit & 1) != 0, .fetch = false, .user = (n >> user_bit & 1) != 0};
        // The levels above differ in nothing but where they lie: any table will do for the oracle.
        const auto walk = shadow::reference::walk_tables(s, address, [&](u64 where, unsigned) {
            const u64 table = where & ~u64{0xfff};
            const u64 next = table == root5                  ? tables + 0x3000
                             : table == client::layout::pml4 ? tables + 0x2000
                                                             : table - 0x1000;
            return std::optional<u64>(where == slot ? entry : next | table_bits);
        });
        ASSERT_EQ(walk.entries.back().at, slot);
        const auto due = shadow::reference::judge(s, walk, address, access);
        ASSERT_EQ(static_cast<u32>(got), due.ok ? ~u32{0} : due.error) << "case " << std::hex << n;
        const u64 flags = due.ok ? accessed | (access.write ? dirty : 0) : 0;
        const u64 unknown = due.ok ? 0 : accessed; // SDM 3A 4.8
        ASSERT_EQ(got >> 32 & ~unknown, (entry | flags) & 0xffff'ffff & ~unknown) << "case " << std::hex << n;
    }

    // The page at PAGE and those below it that the supervisor uses, under SMAP the supervisor's.
    static Guest strict_guest(Mode mode, client::GuestCode code, u64 entry) {
        Guest guest(host(), {.mode = mode});
        std::vector<u64> entries(256);
        for (u64 i = 0; i < entries.size(); ++i) {
            entries[i] = (client::layout::base + i * page_size) | p | rw | accessed | dirty;
        }
        constexpr u64 page_index = 0x13;
        entries[page_index] = (client::layout::base + page_index * page_size) | entry;
        guest.write(client::layout::page_tables,
                    {reinterpret_cast<const u8*>(entries.data()), entries.size() * sizeof(u64)});
        guest.state.cr0 &= ~u64{1u << 16};
        guest.load(code);
        return guest;
    }
    static constexpr u64 fault_length = 7;
};

} // namespace

TEST_F(PagingLong, paging_5_level_guest_agrees_with_its_tables) {
    claim({"SDM 3A 4.5, 4.6, 4.7, 4.8", "APM 2 5.3, 5.6, 8.4.2"}, [&] {
        if (!has_leaf_7(Register::ecx, 16)) {
            GTEST_SKIP() << "CPUID.7:ECX.LA57[16] is 0";
        }
        constexpr u64 address = 0x00a1'0203'0040'5040; // not canonical with four levels
        in_every_mode([&](Mode mode) {
            return run_cases(case_guest(mode, true, address), address, page, key_bit, false);
        });
    });
}

TEST_F(PagingLong, paging_protection_keys_bind_user_addresses) {
    claim({"SDM 3A 4.6.2, 4.7", "APM 2 5.6.7, 8.4.2"}, [&] {
        if (!has_leaf_7(Register::ecx, 3)) {
            GTEST_SKIP() << "CPUID.7:ECX.PKU[3] is 0";
        }
        constexpr u64 address = 0x1203'0040'5040, key_1 = u64{1} << 59;
        in_every_mode([&](Mode mode) {
            u64 tried = 0;
            for (const u64 key : {u64{0}, key_1}) {
                tried += run_cases(case_guest(mode, false, address), address, page | key, key_bit + 2, true);
            }
            return tried;
        });
    });
}

TEST_F(PagingLong, paging_smap_binds_after_a_write_that_only_wp_0_allowed) {
    claim({"SDM 3A 4.6.1", "APM 2 5.6.6"}, [&] {
        if (!has_leaf_7(Register::ebx, 20)) {
            GTEST_SKIP() << "CPUID.7:EBX.SMAP[20] is 0";
        }
        in_every_mode([&](Mode mode) {
            Guest guest = strict_guest(mode, guest_smap, p | us | without_rw());
            guest.state.cr4 |= cr4_smap;
            guest.state.rflags |= rflags_ac;
            const RunResult r = guest.run({.handler_advance = fault_length});
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, 1u) << "of three accesses the one while AC is 0";
            EXPECT_EQ(r.exceptions.vector, 14u);
            EXPECT_EQ(r.exceptions.error, p);
            return 3u;
        });
    });
}

TEST_F(PagingLong, paging_keys_bind_after_a_write_that_only_wp_0_allowed) {
    claim({"SDM 3A 4.6.2", "APM 2 5.6.7"}, [&] {
        if (!has_leaf_7(Register::ecx, 3)) {
            GTEST_SKIP() << "CPUID.7:ECX.PKU[3] is 0";
        }
        constexpr u64 protection_key = 1u << 5;
        in_every_mode([&](Mode mode) {
            Guest guest = strict_guest(mode, guest_key, p | rw | us | u64{1} << 59);
            guest.state.cr4 |= cr4_pke;
            const RunResult r = guest.run({.handler_advance = fault_length});
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, 1u) << "of three accesses the one while AD is 1";
            EXPECT_EQ(r.exceptions.vector, 14u);
            EXPECT_EQ(r.exceptions.error, p | protection_key);
            return 3u;
        });
    });
}

TEST_F(PagingLong, paging_invpcid_shows_an_entry_that_is_not_present) {
    claim({"SDM 2A INVPCID, 3A 4.10.4.1", "APM 3 INVPCID"}, [&] {
        if (!has_leaf_7(Register::ebx, 10)) {
            GTEST_SKIP() << "CPUID.7:EBX.INVPCID[10] is 0";
        }
        constexpr u64 descriptor = REFHV_SCRATCH, pcid = 5, page_address = 0x4001'3000;
        in_every_mode([&](Mode mode) {
            constexpr u64 types = 5;
            for (u64 type = 0; type < types; ++type) {
                for (const bool tagged : {false, true}) {
                    SCOPED_TRACE("type " + std::to_string(type) + (tagged ? " under CR4.PCIDE" : ""));
                    Guest guest(host(), {.mode = mode});
                    const u64 words[2] = {pcid, page_address};
                    guest.write(descriptor, bytes_of(words));
                    guest.state.cr3 |= tagged ? pcid : 0;
                    guest.state.cr4 |= tagged ? cr4_pcide : 0;
                    guest.state.gpr[abi::rdi] = type;
                    guest.state.gpr[abi::rsi] = descriptor;
                    guest.load(guest_invpcid);
                    const RunResult r = guest.run({.handler_advance = fault_length});
                    expect_stopped(r);
                    // PCID 5 without CR4.PCIDE, and type 4, are #GP; after that the entry may show or not.
                    const bool fault = type == 4 || (!tagged && type < 2);
                    EXPECT_EQ(r.exceptions.vector, fault ? 13u : 14u);
                    EXPECT_TRUE(fault || r.exceptions.count == 1);
                }
            }
            return 2 * types;
        });
    });
}

} // namespace refhv::front
