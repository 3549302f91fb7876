// SPDX-License-Identifier: MIT
// About the core: however a guest exits, the host can take an interrupt before long. Guests that would keep
// it out, and random ones; ci/check-host-window prints how far apart the host's windows were.
#include "conformance/intr/case.hpp"
#include "conformance/paging/legacy_guest.hpp"

#include <algorithm>
#include <random>

namespace refhv::front {

using abi::Action;
using abi::Intercept;
using abi::Mode;
using abi::Reason;
using client::Guest;
using client::on;
using client::Plan;
using client::RunResult;
namespace layout = client::layout;

namespace {

// What docs/core.md promises, in instructions.
constexpr u64 longest_promised = u64{1} << 21;

[[nodiscard]] abi::PolicyEntry answer(Reason reason, Action action) {
    return {static_cast<u16>(reason), static_cast<u8>(action), 2, 0};
}

GUEST(guest_cpuid_for_ever, "1: cpuid\n jmp 1b")
GUEST(guest_raises_its_priority, "mov $15, %eax\n mov %rax, %cr8\n 1: cpuid\n jmp 1b")
GUEST(guest_spins, "sti\n 1: jmp 1b")
GUEST(guest_spins_closed, "1: jmp 1b")
GUEST(guest_counts, "mov $20000, %ecx\n 1: loop 1b")

// R14 pieces, each with exits of its own, chosen by an LCG that starts with R15. RSI, RDI, RBP: CR0, CR3,
// CR4. A piece is 32 bytes long; what was not executed must not show in the next instruction. A MOV CR is
// four bytes long whatever its register, for QEMU 10 takes those from CR3, CR4 and CR8 for CR0's.
#define REX_W ".byte 0x48\n"
#define PIECE(text) ".p2align 5, 0x90\n" text "\n jmp 1f\n"
// clang-format off
GUEST(guest_at_random,
      "jmp 1f\n"
      ".p2align 5, 0x90\n 2:"
      PIECE("cpuid")
      PIECE("rdtsc")
      PIECE("pause")
      PIECE(REX_W "mov %cr0, %rax\n" REX_W "mov %rsi, %cr0")
      PIECE(REX_W "mov %cr3, %rax\n" REX_W "mov %rdi, %cr3")
      PIECE(REX_W "mov %cr4, %rax\n" REX_W "mov %rbp, %cr4")
      PIECE("mov %cr8, %rax\n xor %eax, %eax\n mov %rax, %cr8")
      PIECE("mov %dr6, %rax")
      PIECE("mov $0x80, %edx\n out %al, %dx\n in %dx, %al")
      PIECE("mov $0xc0000082, %ecx\n rdmsr")
      PIECE("invlpg 0x40013000")
      PIECE("wbinvd")
      PIECE("ud2")
      PIECE("mov 0x40400000, %rax")
      PIECE("sgdt 0x40012800")
      PIECE("str %eax")
      ".p2align 5, 0x90\n"
      "1: dec %r14\n jz 3f\n"
      "mov $6364136223846793005, %rax\n imul %rax, %r15\n add $12345, %r15\n"
      "mov %r15, %rax\n shr $60, %rax\n shl $5, %eax\n"
      "lea 2b(%rip), %rbx\n add %rbx, %rax\n jmp *%rax\n"
      "3: nop")
// clang-format on

// Of the instructions above, where the CPU does not tell.
[[nodiscard]] u8 length_of(Reason reason) {
    switch (reason) {
    case Reason::io_in:
    case Reason::io_out:
        return 1;
    case Reason::invlpg:
    case Reason::gdtr_idtr:
        return 8;
    case Reason::dr_read:
    case Reason::ldtr_tr:
        return 3;
    case Reason::cr0_read:
    case Reason::cr0_write:
    case Reason::cr3_read:
    case Reason::cr3_write:
    case Reason::cr4_read:
    case Reason::cr4_write:
    case Reason::cr8_read:
    case Reason::cr8_write:
        return 4;
    default:
        return 2;
    }
}

// Tables in the arena, RBX of them, for addresses from 60000000H on; each is read through all its entries,
// then written, then CR3 loaded, over and over, R14 times.
GUEST(guest_storm, "4: mov $0x60000000, %esi\n mov %rbx, %rcx\n shl $9, %rcx\n"
                   "1: mov (%rsi), %eax\n add $0x1000, %rsi\n loop 1b\n"
                   "mov $0x40400000, %esi\n mov %rbx, %rcx\n"
                   "2: mov (%rsi), %rax\n xor $0x800, %rax\n mov %rax, (%rsi)\n add $0x1000, %rsi\n loop 2b\n"
                   "mov %cr3, %rax\n mov %rax, %cr3\n"
                   "invlpg 0x60000000\n"
                   "dec %r14\n jnz 4b")

// One page under RBX * 512 addresses, then used as a page table.
GUEST(guest_alias, "mov $0x60000000, %esi\n mov %rbx, %rcx\n shl $9, %rcx\n"
                   "1: mov %ecx, 2048(%rsi)\n add $0x1000, %rsi\n loop 1b\n"
                   "mov %rdi, (%r15)\n mov 0x7c000000, %eax\n")

// Outside long mode: EBX entries at ESI are written, the pages from EDI on touched, CR3 loaded, 8 times.
#define LEGACY_STORM(entry_bytes)                                                                            \
    ".code32\n jmp 8f\n"                                                                                     \
    ".balign 16\n hlt\n .balign 16\n hlt\n"                                                                  \
    "8: mov $8, %ebp\n"                                                                                      \
    "4: mov %esi, %edx\n mov %ebx, %ecx\n"                                                                   \
    "1: xorl $0x800, (%edx)\n add $" entry_bytes ", %edx\n loop 1b\n"                                        \
    "mov %edi, %edx\n mov %ebx, %ecx\n"                                                                      \
    "2: mov 0x10(%edx), %eax\n mov %eax, 0x10(%edx)\n add $0x1000, %edx\n loop 2b\n"                         \
    "invlpg (%edi)\n mov %cr3, %eax\n mov %eax, %cr3\n"                                                      \
    "dec %ebp\n jnz 4b\n .code64\n"
GUEST(guest_pae_storm, LEGACY_STORM("8"))
GUEST(guest_32_bit_storm, LEGACY_STORM("4"))

} // namespace

class HostWindow : public Intr {
  protected:
    void TearDown() override {
        RecordProperty("longest_stretch", std::to_string(longest_));
        RecordProperty("entries", std::to_string(entries_));
        Intr::TearDown();
    }

    // What a run of at least so many entries left.
    void judge(const RunResult& r, u64 least) {
        ASSERT_GE(r.reply.entries, least) << r.text << ": the guest did not do what it is for; reason "
                                          << client::name_of(static_cast<Reason>(r.reply.exit.reason));
        ASSERT_GT(r.reply.longest_stretch, 0u);
        longest_ = std::max(longest_, r.reply.longest_stretch);
        entries_ += r.reply.entries;
        if (Session::get().info().counts_instructions) {
            EXPECT_LE(r.reply.longest_stretch, longest_promised);
        }
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    }

    // Until its deadline.
    RunResult run_for_ever(Guest& guest, u64 deadline = 2'000'000) {
        RunResult r = guest.run({.deadline = deadline});
        EXPECT_EQ(r.outcome, abi::Outcome::deadline) << r.text;
        return r;
    }

  private:
    u64 longest_ = 0, entries_ = 0;
};

TEST_F(HostWindow, opens_for_a_guest_that_exits_for_ever) {
    claim({"SDM 3C 28.2", "APM 2 15.6"}, [&] {
        for (const Action how : {Action::advance, Action::emulate}) { // by assembly, by C++
            Plan plan;
            plan.intercepts = on(Intercept::cpuid);
            plan.policy = {answer(Reason::cpuid, how)};
            Guest guest(host(), plan);
            guest.load(guest_cpuid_for_ever);
            judge(run_for_ever(guest), 1000);
        }
    });
}

TEST_F(HostWindow, opens_for_a_guest_with_the_highest_priority) {
    claim({"SDM 3A 11.8.6", "APM 2 15.21.2"}, [&] {
        Plan plan;
        plan.intercepts = on(Intercept::cpuid);
        plan.policy = {answer(Reason::cpuid, Action::emulate)};
        Guest guest(host(), plan);
        guest.load(guest_raises_its_priority);
        judge(run_for_ever(guest), 1000);
    });
}

TEST_F(HostWindow, opens_under_a_preemption_timer_of_zero) {
    claim({"SDM 3C 26.2", ""}, [&] {
        if (!offers(vmcs::pin_controls, vmcs::pin_preemption_timer)) {
            GTEST_SKIP() << "no VMX-preemption timer";
        }
        Plan plan;
        plan.policy = {answer(Reason::preemption_timer, Action::resume)};
        Guest guest(host(), plan);
        guest.load(guest_spins_closed);
        change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
        judge(run_for_ever(guest), 1000);
    });
}

TEST_F(HostWindow, opens_under_the_monitor_trap_flag) {
    claim({"SDM 3C 26.5.2", ""}, [&] {
        if (!offers(vmcs::proc_controls, vmcs::proc_monitor_trap)) {
            GTEST_SKIP() << "no monitor trap flag";
        }
        Plan plan;
        plan.policy = {answer(Reason::monitor_trap, Action::resume)};
        Guest guest(host(), plan);
        guest.load(guest_counts);
        change(guest, vmcs::proc_controls, vmcs::proc_monitor_trap);
        judge(guest.run({}), 20'000);
    });
}

// The deadline is the only interrupt there is.
TEST_F(HostWindow, a_short_deadline_ends_a_guest_that_never_exits) {
    claim({"SDM 3C 26.2", "APM 2 15.13.1"}, [&] {
        for (const u64 deadline : {u64{1}, u64{50}, u64{1000}, u64{20'000}, u64{200'000}}) {
            SCOPED_TRACE(deadline);
            Plan plan;
            plan.policy = {answer(Reason::external_interrupt, Action::resume)};
            Guest guest(host(), plan);
            guest.load(guest_spins);
            judge(run_for_ever(guest, deadline), 1);
        }
    });
}

TEST_F(HostWindow, opens_for_random_exits) {
    claim({"SDM 3C 26.1.3", "APM 2 15.9"}, [&] {
        constexpr u64 pieces = 2000;
        std::mt19937_64 random(1);
        for (u64 seed = 1; seed <= 24; ++seed) {
            SCOPED_TRACE(seed);
            Plan plan;
            plan.mode = seed % 3 == 0 ? Mode::shadow : seed % 3 == 1 ? Mode::nested : Mode::vtlb;
            plan.arena_pages = 1;
            u64 wanted = random() & ((u64{1} << static_cast<u8>(Intercept::count_)) - 1);
            wanted &= ~on(Intercept::preemption_timer, Intercept::hlt);
            wanted &= plan.mode == Mode::nested ? ~u64{0} : ~on(Intercept::cr3_write, Intercept::invlpg);
            plan.intercepts = wanted;
            for (u16 n = 1; n < static_cast<u16>(Reason::count_); ++n) {
                const auto reason = static_cast<Reason>(n);
                const Action how = reason == Reason::external_interrupt ? Action::resume : Action::advance;
                if (reason != Reason::hlt && reason != Reason::triple_fault) {
                    plan.policy.push_back({n, static_cast<u8>(how), length_of(reason), 0});
                }
            }
            plan.exceptions = 1u << 6;
            Guest guest(host(), plan);
            guest.state.gpr[abi::rsi] = guest.state.cr0;
            guest.state.gpr[abi::rdi] = guest.state.cr3;
            guest.state.gpr[abi::rbp] = guest.state.cr4;
            guest.state.gpr[abi::r15] = random();
            guest.state.gpr[abi::r14] = pieces;
            guest.load(guest_at_random);
            const auto r = guest.run({.handler_advance = 2, .deadline = 50'000'000});
            expect_stopped(r);
            judge(r, pieces / 32);
        }
    });
}

TEST_F(HostWindow, opens_in_storms_of_changed_page_tables) {
    claim({"SDM 3C 33.3", "APM 2 15.25"}, [&] {
        constexpr u64 flags = 0x67, window = 0x6000'0000;
        struct {
            Mode mode;
            u64 tables;
        } const storms[] = {
            {Mode::shadow, 24}, {Mode::shadow, 25}, {Mode::vtlb, 25}}; // 24 at most are out of step
        for (const auto& [mode, tables] : storms) {
            SCOPED_TRACE(tables);
            Plan plan;
            plan.mode = mode;
            plan.arena_pages = 4096;
            Guest guest(host(), plan);
            for (u64 t = 0; t < tables; ++t) {
                const u64 table = layout::arena + t * page_size;
                guest.fill(layout::page_directory + ((window - layout::base) >> 21) * 8 + t * 8,
                           table | flags, 0, 1, true);
                guest.fill(table, (layout::arena + (u64{64} << 12)) | flags, page_size, 512, true);
            }
            guest.state.gpr[abi::rbx] = tables;
            guest.state.gpr[abi::r14] = 1;
            guest.load(guest_storm);
            const auto r = guest.run({.deadline = 2'000'000'000});
            expect_stopped(r);
            judge(r, tables * 512);
        }
    });
}

TEST_F(HostWindow, opens_where_a_page_with_many_mappings_becomes_a_table) {
    claim({"SDM 3C 33.3", "APM 2 15.25"}, [&] {
        constexpr u64 flags = 0x67, window = 0x6000'0000, last = 0x7c00'0000;
        for (const u64 tables : {1, 2, 16}) { // 1024 mappings at most lose a right at once
            SCOPED_TRACE(tables);
            Plan plan;
            plan.mode = Mode::shadow;
            plan.arena_pages = 2048;
            Guest guest(host(), plan);
            const u64 victim = layout::arena + (u64{1000} << 12);
            for (u64 t = 0; t < tables; ++t) {
                const u64 table = layout::arena + t * page_size;
                guest.fill(layout::page_directory + ((window - layout::base) >> 21) * 8 + t * 8,
                           table | flags, 0, 1, true);
                guest.fill(table, victim | flags, 0, 512, true);
            }
            guest.fill(layout::page_directory + ((last - layout::base) >> 21) * 8, victim | flags, 0, 1,
                       true);
            guest.state.gpr[abi::rbx] = tables;
            guest.state.gpr[abi::rdi] = layout::arena | flags;
            guest.state.gpr[abi::r15] = victim;
            guest.load(guest_alias);
            const auto r = guest.run({.deadline = 2'000'000'000});
            expect_stopped(r);
            judge(r, tables * 512);
        }
    });
}

TEST_F(HostWindow, opens_for_guests_outside_long_mode_that_change_their_tables) {
    claim({"SDM 3C 33.3", "APM 2 15.25"}, [&] {
        for (const bool pae : {true, false}) {
            for (const Mode mode : {Mode::shadow, Mode::vtlb}) {
                SCOPED_TRACE(testing::Message() << client::name_of(mode) << (pae ? " PAE" : " 32-bit"));
                legacy::LegacyGuest l(host(), mode, pae, on_svm());
                const u64 entries = pae ? 512 : 1024;
                const u64 base = legacy::at::address & ~((u64{1} << (pae ? 21 : 22)) - 1);
                // All of one table maps the arena's first pages, which hold the tables themselves.
                std::vector<u8> table;
                for (u64 n = 0; n < entries; ++n) {
                    const u64 entry = (legacy::at::arena + n % 16 * page_size) | legacy::all;
                    const auto* raw = reinterpret_cast<const u8*>(&entry);
                    table.insert(table.end(), raw, raw + (pae ? 8 : 4));
                }
                l.guest.write(legacy::at::table, table);
                const u64 directory_entry = legacy::at::table | legacy::all;
                l.guest.write(l.pde_slot(), bytes_of(directory_entry).first(pae ? 8 : 4));
                l.guest.state.gpr[abi::rsi] = legacy::at::table;
                l.guest.state.gpr[abi::rdi] = base;
                l.guest.state.gpr[abi::rbx] = entries;
                l.guest.load(pae ? guest_pae_storm : guest_32_bit_storm);
                const auto r = l.guest.run({.deadline = 2'000'000'000});
                EXPECT_EQ(r.outcome, abi::Outcome::exited);
                judge(r, entries);
            }
        }
    });
}

} // namespace refhv::front
