// SPDX-License-Identifier: MIT
// #CP of a guest whose CET state came with the entry: an indirect branch that meets no ENDBR64, and a RET
// that the shadow stack contradicts; each beside runs in which nothing of it is on, and that go through.
#include "conformance/entry/cet.hpp"

namespace refhv::front {

using namespace cet;

using abi::Reason;
using client::layout::code;

namespace {

GUEST(guest_jumps, "lea 1f(%rip), %rax\n jmp *%rax\n ud2\n 1: nop")
GUEST(guest_jumps_to_endbr64, "lea 1f(%rip), %rax\n jmp *%rax\n ud2\n 1: endbr64")
GUEST(guest_jumps_to_endbr32, "lea 1f(%rip), %rax\n jmp *%rax\n ud2\n 1: endbr32")
GUEST(guest_jumps_untracked, "lea 1f(%rip), %rax\n notrack jmp *%rax\n ud2\n 1: nop")
GUEST(guest_jumps_directly, "jmp 1f\n ud2\n 1: nop")
GUEST(guest_returns, "call 1f\n jmp 2f\n 1: ret\n 2:")
GUEST(guest_returns_elsewhere, "lea 2f(%rip), %rax\n call 1f\n ud2\n 1: mov %rax, (%rsp)\n ret\n 2:")

constexpr u32 near_ret = 1, endbranch_error = 3; // error codes of #CP (SDM 3A 6.15)

struct Case {
    const char* what;
    client::GuestCode guest;
    u64 s_cet;
    bool on; // CR4.CET
    u64 at;  // offset of the instruction that faults; 0: none
};

} // namespace

class EntryCetFaults : public EntryCet {
  protected:
    static void check(std::span<const Case> cases, u32 error) {
        CetGuest guest(cases.front().guest);
        const u64 cr4 = guest.vm().state.cr4;
        for (const Case& c : cases) {
            SCOPED_TRACE(c.what);
            guest.vm().load(c.guest);
            guest.vm().state.cr4 = c.on ? cr4 : cr4 & ~cr4_cet;
            const auto r = guest.run(Cet{c.s_cet, stack_top, 0}, Cet{});
            if (c.at == 0) {
                expect_stopped(r);
                continue;
            }
            constexpr u32 exception_with_error = 1u << 31 | 1u << 11 | 3u << 8; // SDM 3C table 25-18
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::exception);
            EXPECT_EQ(r.reply.exit.interruption_info, exception_with_error | control_protection);
            EXPECT_EQ(r.reply.exit.interruption_error, error);
            EXPECT_EQ(r.reply.state.rip, code + c.at);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
        combinations(cases.size());
    }
};

TEST_F(EntryCetFaults, vmx_indirect_branch_to_no_endbr64_is_control_protection_3) {
    claim({.sdm = "SDM 3C 27.3.2.1, 25.6.3; SDM 3A 6.15"}, [&] {
        constexpr u64 target = 11, untracked_target = 12; // behind LEA, JMP, UD2; NOTRACK besides
        const Case cases[] = {
            {"tracked", guest_jumps, endbranch, true, target},
            {"to ENDBR64", guest_jumps_to_endbr64, endbranch, true, 0},
            {"to ENDBR32 in 64-bit mode", guest_jumps_to_endbr32, endbranch, true, target},
            {"direct", guest_jumps_directly, endbranch, true, 0},
            {"NOTRACK where it is enabled", guest_jumps_untracked, endbranch | no_track, true, 0},
            {"NOTRACK where it is not", guest_jumps_untracked, endbranch, true, untracked_target},
            {"IA32_S_CET.ENDBR_EN = 0", guest_jumps, shadow_stack, true, 0},
            {"CR4.CET = 0", guest_jumps, endbranch, false, 0},
        };
        check(cases, endbranch_error);
    });
}

TEST_F(EntryCetFaults, vmx_return_that_the_shadow_stack_contradicts_is_control_protection_1) {
    claim({.sdm = "SDM 3C 27.3.2.1, 27.3.2.3, 25.6.3; SDM 3A 6.15"}, [&] {
        constexpr u64 ret = 18; // behind LEA, CALL, UD2, MOV
        const Case cases[] = {
            {"to where it was called from", guest_returns, shadow_stack, true, 0},
            {"elsewhere", guest_returns_elsewhere, shadow_stack, true, ret},
            {"elsewhere, IA32_S_CET.SH_STK_EN = 0", guest_returns_elsewhere, endbranch, true, 0},
            {"elsewhere, CR4.CET = 0", guest_returns_elsewhere, shadow_stack, false, 0},
        };
        check(cases, near_ret);
    });
}

} // namespace refhv::front
