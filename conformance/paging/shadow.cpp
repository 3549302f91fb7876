// SPDX-License-Identifier: MIT
// A guest that changes its own page tables sees the same under nested, shadow and vtlb paging; and what
// shadow paging promises about its exits. The page at 40013000H is unused; its page-table entry lies at
// 40005098H.
#include "conformance/paging/claim.hpp"

namespace refhv::front {

using abi::Mode;
using abi::Reason;
using client::Guest;
using client::RunResult;

namespace {

#define PAGE "0x40013000"
#define ENTRY "0x40005098"

constexpr u64 page = 0x4001'3000;
constexpr u64 p = 1, rw = 2, accessed = 1u << 5, dirty = 1u << 6;

// Each guest first uses the page, so that there is a translation to forget. Every instruction that may fault
// is 7 bytes long, so that the guest's handler can step over it.
constexpr u64 fault_length = 7;

GUEST(guest_unmap, "mov %esp, " PAGE "\n mov " ENTRY ", %rbx\n"
                   "mov %rbx, %rax\n and $~1, %rax\n mov %rax, " ENTRY "\n"
                   "invlpg " PAGE "\n"
                   "mov " PAGE ", %ecx\n" // #PF
                   "mov %rbx, " ENTRY "\n"
                   "mov %rsp, " PAGE "\n")

GUEST(guest_protect, "mov %esp, " PAGE "\n andq $~2, " ENTRY "\n"
                     "invlpg " PAGE "\n"
                     "mov %esp, " PAGE "\n" // #PF while CR0.WP is 1
                     "mov " ENTRY ", %r11\n"
                     "mov %cr0, %rax\n and $~0x10000, %rax\n mov %rax, %cr0\n"
                     "not %rdi\n and %rdi, " ENTRY "\n invlpg " PAGE "\n"
                     "mov %esp, " PAGE "\n"
                     "mov " ENTRY ", %r14\n mov %cr0, %r15\n")

GUEST(guest_flags, "mov %esp, " PAGE "\n andq $~0x60, " ENTRY "\n invlpg " PAGE "\n"
                   "mov " ENTRY ", %rbx\n"
                   "mov " PAGE ", %eax\n"
                   "mov " ENTRY ", %r11\n"
                   "mov %eax, " PAGE "\n"
                   "mov " ENTRY ", %r14\n")

// RDI rounds of work on mapped memory.
GUEST(guest_work,
      "1: mov " PAGE ", %rax\n inc %rax\n mov %rax, " PAGE "\n push %rax\n pop %rcx\n dec %rdi\n jnz 1b\n")

GUEST(guest_reload, "mov %cr3, %rax\n 1: mov %rax, %cr3\n mov " PAGE ", %ecx\n dec %rdi\n jnz 1b\n")

class Paging : public Claim {
  protected:
    void TearDown() override {
        combinations(tried_);
        Claim::TearDown();
    }

    RunResult run(Mode mode, client::GuestCode code, u64 rounds = 0) {
        ++tried_;
        Guest guest(host(), {.mode = mode});
        guest.state.gpr[abi::rdi] = rounds;
        guest.load(code);
        RunResult r = guest.run({.handler_advance = fault_length});
        EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        return r;
    }

    // Calls check(mode) under each mode that the target's core offers.
    template <class F>
    static void in_every_mode(F check) {
        for (const Mode mode : {Mode::nested, Mode::shadow, Mode::vtlb}) {
            SCOPED_TRACE(client::name_of(mode));
            ASSERT_NE(hello().fixed.modes >> static_cast<u8>(mode) & 1, 0u);
            check(mode);
        }
    }

  private:
    u64 tried_ = 0; // guests
};

} // namespace

TEST_F(Paging, paging_invlpg_shows_an_entry_that_is_not_present) {
    claim({"SDM 3A 4.10.4.1", "APM 2 5.5.2"}, [&] {
        in_every_mode([&](Mode mode) {
            const RunResult r = run(mode, guest_unmap);
            EXPECT_EQ(r.exceptions.count, 1u) << "one #PF, and none once the entry is present again";
            EXPECT_EQ(r.exceptions.vector, 14u);
            EXPECT_EQ(r.exceptions.error, 0u);
        });
    });
}

TEST_F(Paging, paging_fault_address_is_in_cr2) {
    claim({"SDM 3A 4.7", "APM 2 8.2.15"},
          [&] { in_every_mode([&](Mode mode) { EXPECT_EQ(run(mode, guest_unmap).exceptions.cr2, page); }); });
}

TEST_F(Paging, paging_write_protect_binds_the_supervisor) {
    claim({"SDM 3A 4.6.1", "APM 2 5.6.3"}, [&] {
        in_every_mode([&](Mode mode) {
            const RunResult r =
                run(mode, guest_protect, accessed | (open_dirty_flag(hello()) ? 0 : dirty)); // to clear
            EXPECT_EQ(r.exceptions.count, 1u) << "with CR0.WP = 1 only";
            EXPECT_EQ(r.exceptions.vector, 14u);
            EXPECT_EQ(r.exceptions.error, p | rw);
            EXPECT_EQ(r.reply.state.gpr[abi::r14] & (rw | accessed | dirty), accessed | dirty);
            EXPECT_EQ(r.reply.state.gpr[abi::r15] & 0x1'0000, 0u) << "the guest reads its own CR0.WP";
        });
    });
}

TEST_F(Paging, paging_accessed_and_dirty_follow_the_access) {
    claim({"SDM 3A 4.8", "APM 2 5.4.2"}, [&] {
        in_every_mode([&](Mode mode) {
            const RunResult r = run(mode, guest_flags);
            EXPECT_EQ(r.exceptions.count, 0u);
            EXPECT_EQ(r.reply.state.gpr[abi::rbx] & (accessed | dirty), 0u);
            EXPECT_EQ(r.reply.state.gpr[abi::r11] & (accessed | dirty), accessed) << "after a read";
            EXPECT_EQ(r.reply.state.gpr[abi::r14] & (accessed | dirty), accessed | dirty) << "after a write";
        });
    });
}

TEST_F(Paging, paging_shadow_takes_no_exits_once_warm) {
    claim({"refhv docs/core.md", "refhv docs/core.md"}, [&] {
        for (const Mode mode : {Mode::shadow, Mode::vtlb}) {
            SCOPED_TRACE(client::name_of(mode));
            const u64 few = run(mode, guest_work, 2).reply.entries;
            EXPECT_EQ(run(mode, guest_work, 2000).reply.entries, few);
        }
    });
}

TEST_F(Paging, paging_shadow_reloads_a_cached_root_in_one_exit) {
    claim({"refhv docs/core.md", "refhv docs/core.md"}, [&] {
        constexpr u64 few = 2, many = 100;
        const RunResult a = run(Mode::shadow, guest_reload, few);
        const RunResult b = run(Mode::shadow, guest_reload, many);
        EXPECT_EQ(a.count(Reason::cr3_write), few);
        EXPECT_EQ(b.count(Reason::cr3_write), many);
        EXPECT_EQ(b.reply.entries - a.reply.entries, many - few)
            << "no further fault: nothing was walked anew";
        // The TLB in software starts anew each time: the page, the code and the loop's own table.
        EXPECT_GT(run(Mode::vtlb, guest_reload, many).count(Reason::exception), many);
    });
}

} // namespace refhv::front
