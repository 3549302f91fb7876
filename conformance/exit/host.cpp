// SPDX-License-Identifier: MIT
// What a guest does to itself and must not do to the host, and what an answered exit owes the guest.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::Intercept;
using abi::Reason;
using client::layout::code;

namespace {

constexpr u32 debug = 1, double_fault = 8, segment_not_present = 11, general_protection = 13;
constexpr u64 interrupt_flag = 1u << 9;

abi::PolicyEntry answer(Reason reason, abi::Action action, u8 length = 0) {
    return {
        .reason = static_cast<u16>(reason), .action = static_cast<u8>(action), .length = length, .event = 0};
}

} // namespace

// The guest's task priority is not the CPU's: with 15 in CR8 it would mask the host's interrupts, the
// deadline's too. IF is 1: Bochs 2.7 delivers no interrupt to a guest with IF = 0, whatever the controls.
GUEST(guest_masks_all, "mov $15, %eax\n mov %rax, %cr8\n 1: jmp 1b")
TEST_F(Exit, the_guests_cr8_masks_no_interrupt_of_the_host) {
    claim({"SDM 3C 26.2, 30.1.1, 30.3", "APM 2 15.21.1"}, [&] {
        client::Guest guest(host(), {});
        guest.state.rflags |= interrupt_flag;
        guest.load(guest_masks_all);
        const u64 deadline = 200'000 * (host().target.info().counts_instructions ? 1 : 100);
        const auto r = guest.run({.deadline = deadline});
        EXPECT_EQ(r.outcome, abi::Outcome::deadline);
        EXPECT_GE(r.count(Reason::external_interrupt), 1u);
        EXPECT_EQ(r.reply.state.cr8, 15u);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

// XSETBV that does not exit on SVM, in a guest whose state says nothing of XCR0. On VMX it always exits.
GUEST(guest_xsetbv, "xor %edx, %edx\n xor %ecx, %ecx\n xsetbv")
TEST_F(Exit, xcr0_of_the_guest_does_not_stay_in_the_host) {
    claim({"", "APM 2 11.5.2, 15.6"}, [&] {
        if ((cpuid(hello(), 1, 0, 2) >> 26 & 1) == 0) {
            GTEST_SKIP() << "no XSAVE: CPUID.01H:ECX[26] is 0";
        }
        needs(abi::Permit::xcr0);
        u64 others = 0;
        for (const u64 value : {u64{1}, u64{3}}) { // one of them is not the host's
            client::Guest guest(host(), {.osxsave = true});
            guest.state.xcr0 = 0;
            guest.state.gpr[abi::rax] = value;
            guest.load(guest_xsetbv);
            const auto r = guest.run({});
            ASSERT_EQ(r.outcome, abi::Outcome::exited);
            EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            EXPECT_TRUE(r.reply.state.xcr0 == 0 || r.reply.state.xcr0 == value) << r.reply.state.xcr0;
            others += r.reply.state.xcr0 == value ? 1 : 0;
        }
        EXPECT_GE(others, 1u) << "the guest's XCR0 was never another than the host's";
    });
}

// A #NP that the delivery of a #GP has met, intercepted and handed back, is a #DF by then.
GUEST(guest_gp, "mov $0x1000, %eax\n mov %eax, %ds")
TEST_F(Exit, a_fault_in_the_delivery_of_a_fault_is_handed_back_as_double_fault) {
    claim({"SDM 3A 6.15 table 6-5, 3C 28.2.4", "APM 2 8.2.9, 15.7.2"}, [&] {
        client::Guest guest(host(), {.exceptions = 1u << segment_not_present,
                                     .policy = {answer(Reason::exception, abi::Action::inject)}});
        constexpr u64 gate = client::layout::idt + 16 * general_protection;
        guest.load(guest_gp);
        const u64 present = u64{1} << 47; // an absent gate of a wrong type would be a #GP
        guest.fill(gate, guest.read64(gate, 1)[0] & ~present, 0, 1, false);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(r.count(Reason::exception), 1u);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, double_fault);
        EXPECT_EQ(r.exceptions.error, 0u);
    });
}

// A CPUID that exits and is emulated ends as one that does not: with the trap.
GUEST(guest_steps_over_cpuid, "pushf\n orl $0x100, (%rsp)\n popf\n cpuid\n nop")
TEST_F(Exit, an_emulated_instruction_traps_before_the_next) {
    claim({"SDM 3B 18.3.1.4, 3C 25.4.2", "APM 2 13.1.4"}, [&] {
        client::Guest guest(host(), {.intercepts = client::on(Intercept::cpuid),
                                     .policy = {answer(Reason::cpuid, abi::Action::emulate, 2)}});
        guest.load(guest_steps_over_cpuid);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(r.count(Reason::cpuid), 1u);
        EXPECT_EQ(r.exceptions.vector, debug);
        EXPECT_EQ(r.exceptions.rip, code + guest_steps_over_cpuid.size() - 1) << "at the NOP";
        EXPECT_NE(r.reply.state.dr6 & 1u << 14, 0u) << "DR6.BS";
    });
}

} // namespace refhv::front
