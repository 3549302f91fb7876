// SPDX-License-Identifier: MIT
// Faults: intercepted exceptions and violations of the nested page tables.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::GuestState;
using abi::Reason;

namespace {

constexpr u32 vector_ud = 6;
constexpr u32 vector_pf = 14;

GUEST(guest_ud, "ud2")
EXIT_CLAIMS(ud, .code = guest_ud, .reason = Reason::exception, .exceptions = 1u << vector_ud,
            .vmx = {.raw = 0, .section = "SDM 3C 26.2, 25.6.3", .qualification = Masked{0}},
            .svm = {.raw = 0x46, .section = "APM 2 15.12.7"}, .otherwise = Otherwise::exception,
            .vector = vector_ud)

GUEST(guest_pf, "mov (%rsi), %al")
EXIT_CLAIMS(
    pf, .code = guest_pf, .reason = Reason::exception, .exceptions = 1u << vector_pf,
    .vmx = {.raw = 0, .section = "SDM 3C 26.2, 25.6.3", .qualification = Masked{REFHV_UNMAPPED}},
    .svm = {.raw = 0x4e, .section = "APM 2 15.12.15", .qualification = Masked{0}},
    .otherwise = Otherwise::exception, .vector = vector_pf,
    .prepare = [](GuestState& s) { s.gpr[abi::rsi] = REFHV_UNMAPPED; })

// EPT violation: a data read (0), no rights (5:3), linear address valid (7) and of the access itself (8): SDM
// 3C table 28-7. NPF: not present (P=0), a user access as all nested ones, of the final address (32): APM
// 2 15.25.6.
GUEST(guest_nested, "mov (%rsi), %al")
EXIT_CLAIMS(
    nested_violation, .code = guest_nested, .reason = Reason::nested_violation, .nested_fault = true,
    .vmx = {.raw = 48, .section = "SDM 3C 29.3.3.2", .qualification = Masked{0x181, 0x1bf}},
    .svm = {.raw = 0x400, .section = "APM 2 15.25.6", .qualification = Masked{u64{1} << 32 | 1u << 2}},
    .prepare = [](GuestState& s) { s.gpr[abi::rsi] = REFHV_ARENA; })

// A write to a page that may be read only.
GUEST(guest_write, "mov %al, (%rsi)")
TEST_F(Exit, nested_write_protection_is_reported_as_a_write) {
    claim({"SDM 3C 29.3.3.2", "APM 2 15.25.6"}, [&] {
        client::Guest guest(host(), {.arena_pages = 1});
        guest.state.gpr[abi::rsi] = REFHV_ARENA;
        guest.load(guest_write);
        constexpr u32 read_execute = 5;
        guest.protect(client::layout::arena, 1, read_execute);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
        EXPECT_EQ(r.reply.exit.guest_physical, client::layout::arena);
        if (on_vmx()) {
            // A write (1), to what is readable (3) and executable (5), address valid (7), the access itself
            // (8).
            EXPECT_EQ(r.reply.exit.qualification & 0x1bf, 0x1aau) << "exit qualification";
        } else {
            constexpr u64 present_write_user_final = u64{1} << 32 | 7;
            EXPECT_EQ(r.reply.exit.qualification, present_write_user_final) << "EXITINFO1";
        }
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

// A hypervisor that injects a page fault writes CR2 through the VMCB, so VMRUN must take it from there.
GUEST(guest_read_cr2, "mov %cr2, %rdi")
TEST_F(Exit, svm_vmrun_loads_cr2) {
    claim({.apm = "APM 2 15.5.1, 15.20"}, [&] {
        constexpr u32 vmcb_cr2 = 0x640;
        client::Guest guest(host(), client::Plan{});
        guest.state.cr2 = 0x1000;
        guest.load(guest_read_cr2);
        guest.field(vmcb_cr2, 8, 0x5000);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(r.reply.state.gpr[abi::rdi], 0x5000u);
    });
}

// The intercepted exception, injected, arrives in the guest as if it had never left.
TEST_F(Exit, injected_page_fault_reaches_the_guest) {
    claim({"SDM 3C 27.6.1", "APM 2 15.20"}, [&] {
        client::Plan plan;
        plan.exceptions = 1u << vector_pf;
        plan.policy.push_back({.reason = static_cast<u16>(Reason::exception),
                               .action = static_cast<u8>(abi::Action::inject),
                               .length = 0,
                               .event = 0});
        client::Guest guest(host(), plan);
        guest.state.gpr[abi::rsi] = REFHV_UNMAPPED;
        guest.load(guest_pf);
        const auto r = guest.run({.handler_advance = guest_pf.size()});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.count(Reason::exception), 1u);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, vector_pf);
        EXPECT_EQ(r.exceptions.error, 0u);
        EXPECT_EQ(r.exceptions.rip, client::layout::code);
        EXPECT_EQ(r.exceptions.cr2, u64{REFHV_UNMAPPED});
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

} // namespace

} // namespace refhv::front
