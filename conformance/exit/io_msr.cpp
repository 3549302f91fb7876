// SPDX-License-Identifier: MIT
// Accesses that bitmaps decide on: I/O ports and MSRs.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::GuestState;
using abi::Reason;

namespace {

constexpr u16 post_port = 0x80;
constexpr u32 kernel_gs_base = 0xc000'0102;

// SDM 3C table 28-5: size-1 in 2:0, direction in 3, immediate operand in 6, port in 31:16.
constexpr Masked vmx_in{post_port << 16 | 1u << 6 | 1u << 3};
constexpr Masked vmx_out{post_port << 16 | 1u << 6};
// APM 2 15.10.2: direction in 0, SZ8 in 4, port in 31:16; the address size in 9:7 says nothing without a
// string.
constexpr u64 io_mask = 0xffff'007f;
constexpr Masked svm_in{post_port << 16 | 1u << 4 | 1, io_mask};
constexpr Masked svm_out{post_port << 16 | 1u << 4, io_mask};

GUEST(guest_in, "in $0x80, %al")
EXIT_CLAIMS(in, .code = guest_in, .reason = Reason::io_in, .port = post_port,
            .vmx = {.raw = 30, .section = "SDM 3C 26.1.3", .qualification = vmx_in},
            .svm = {.raw = 0x7b, .section = "APM 2 15.10.2", .qualification = svm_in})

GUEST(guest_out, "out %al, $0x80")
EXIT_CLAIMS(out, .code = guest_out, .reason = Reason::io_out, .port = post_port,
            .vmx = {.raw = 30, .section = "SDM 3C 26.1.3", .qualification = vmx_out},
            .svm = {.raw = 0x7b, .section = "APM 2 15.10.2", .qualification = svm_out})

void kernel_gs_base_in_rcx(GuestState& s) {
    s.gpr[abi::rcx] = kernel_gs_base;
    s.gpr[abi::rax] = 0;
    s.gpr[abi::rdx] = 0;
}

GUEST(guest_rdmsr, "rdmsr")
EXIT_CLAIMS(rdmsr, .code = guest_rdmsr, .reason = Reason::rdmsr, .msr = kernel_gs_base,
            .vmx = {.raw = 31, .section = "SDM 3C 26.1.3", .qualification = Masked{0}},
            .svm = {.raw = 0x7c, .section = "APM 2 15.11", .qualification = Masked{0}},
            .prepare = kernel_gs_base_in_rcx)

GUEST(guest_wrmsr, "wrmsr")
EXIT_CLAIMS(wrmsr, .code = guest_wrmsr, .reason = Reason::wrmsr, .msr = kernel_gs_base,
            .vmx = {.raw = 32, .section = "SDM 3C 26.1.3", .qualification = Masked{0}},
            .svm = {.raw = 0x7c, .section = "APM 2 15.11", .qualification = Masked{1}},
            .prepare = kernel_gs_base_in_rcx)

// What a guest reads from a passed-through MSR is its own, and what it writes stays its own.
GUEST(guest_msr_round_trip, "rdmsr\n mov %eax, %esi\n mov %edx, %edi\n"
                            "mov $0x5678, %eax\n mov $0x1234, %edx\n wrmsr")
TEST_F(Exit, passed_through_msr_is_the_guests_own) {
    claim({"SDM 3C 25.6.9", "APM 2 15.11"}, [&] {
        client::Plan plan;
        plan.msrs.push_back({.vm = 0, .msr = kernel_gs_base, .read = 0, .write = 0, .zero = {}});
        client::Guest guest(host(), plan);
        guest.state.gpr[abi::rcx] = kernel_gs_base;
        guest.state.kernel_gs_base = 0x0000'4321'0000'8765;
        guest.load(guest_msr_round_trip);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.count(Reason::rdmsr) + r.count(Reason::wrmsr), 0u);
        EXPECT_EQ(r.reply.state.gpr[abi::rsi], 0x8765u);
        EXPECT_EQ(r.reply.state.gpr[abi::rdi], 0x4321u);
        EXPECT_EQ(r.reply.state.kernel_gs_base, 0x0000'1234'0000'5678u);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

} // namespace

} // namespace refhv::front
