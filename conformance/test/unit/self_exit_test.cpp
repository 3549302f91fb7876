// SPDX-License-Identifier: MIT
// From a signal to a neutral exit (refhv/self/exit.hpp). The instructions come from the assembler.
#include "refhv/self/exit.hpp"

#include "refhv/client/guest/guest.hpp"

#include <algorithm>
#include <csignal>
#include <gtest/gtest.h>

namespace refhv::client::self {
namespace {

using abi::Reason;

struct Case {
    const char* name;
    GuestCode code;
    Reason reason;
};

#define INSTRUCTION(name, text) GUEST(name, text)
INSTRUCTION(hlt_, "hlt")
INSTRUCTION(in_dx, "in %dx, %al")
INSTRUCTION(in_imm, "in $0x10, %eax")
INSTRUCTION(in_16, "in %dx, %ax")
INSTRUCTION(ins_, "rep insb")
INSTRUCTION(out_dx, "out %eax, %dx")
INSTRUCTION(out_imm, "out %al, $0xf5")
INSTRUCTION(outs_, "rep outsl")
INSTRUCTION(rdmsr_, "rdmsr")
INSTRUCTION(wrmsr_, "wrmsr")
INSTRUCTION(rdpmc_, "rdpmc")
INSTRUCTION(rdtsc_, "rdtsc")
INSTRUCTION(rdtscp_, "rdtscp")
INSTRUCTION(cpuid_, "cpuid")
INSTRUCTION(from_cr0, "mov %cr0, %rax")
INSTRUCTION(to_cr0, "mov %r9, %cr0")
INSTRUCTION(from_cr3, "mov %cr3, %r15")
INSTRUCTION(to_cr3, "mov %rax, %cr3")
INSTRUCTION(from_cr4, "mov %cr4, %rbx")
INSTRUCTION(to_cr4, "mov %rbx, %cr4")
INSTRUCTION(from_cr8, "mov %cr8, %rax")
INSTRUCTION(to_cr8, "mov %r10, %cr8")
INSTRUCTION(from_cr2, "mov %cr2, %rax")
INSTRUCTION(from_dr7, "mov %dr7, %rax")
INSTRUCTION(to_dr7, "mov %rax, %dr7")
INSTRUCTION(clts_, "clts")
INSTRUCTION(lmsw_, "lmsw %ax")
INSTRUCTION(lmsw_memory, "lmsw 0x10(%rax)")
INSTRUCTION(invd_, "invd")
INSTRUCTION(wbinvd_, "wbinvd")
INSTRUCTION(wbnoinvd_, "wbnoinvd")
INSTRUCTION(invlpg_, "invlpg (%rdi)")
INSTRUCTION(invlpg_sib, "invlpg 0x12345678(%r12, %r13, 8)")
INSTRUCTION(invpcid_, "invpcid 8(%rsp), %rax")
INSTRUCTION(lgdt_, "lgdt 0x40012010")
INSTRUCTION(lidt_, "lidt 0x10(%rip)")
INSTRUCTION(sgdt_, "sgdt (%rsp)")
INSTRUCTION(sidt_, "sidt (%r13)")
INSTRUCTION(lldt_, "lldt %ax")
INSTRUCTION(ltr_, "ltr 0x7f(%rbp)")
INSTRUCTION(str_, "str %eax")
INSTRUCTION(xsetbv_, "xsetbv")
INSTRUCTION(xsaves_, "xsaves64 (%rdi)")
INSTRUCTION(xrstors_, "xrstors 0x1000(%rdi)")
// Not privileged, or of no reason of their own.
INSTRUCTION(nop_, "nop")
INSTRUCTION(cli_, "cli")
INSTRUCTION(int_20, "int $0x20")
INSTRUCTION(swapgs_, "swapgs")
INSTRUCTION(cmpxchg16b_, "cmpxchg16b (%rdi)")
INSTRUCTION(smsw_, "smsw %eax")
INSTRUCTION(load_far, "mov %rax, %es")
INSTRUCTION(load_noncanonical, "mov (%rax), %rbx")
#undef INSTRUCTION

constexpr Case privileged[]{
    {"hlt", hlt_, Reason::hlt},
    {"in dx", in_dx, Reason::io_in},
    {"in imm", in_imm, Reason::io_in},
    {"in 16", in_16, Reason::io_in},
    {"ins", ins_, Reason::io_in},
    {"out dx", out_dx, Reason::io_out},
    {"out imm", out_imm, Reason::io_out},
    {"outs", outs_, Reason::io_out},
    {"rdmsr", rdmsr_, Reason::rdmsr},
    {"wrmsr", wrmsr_, Reason::wrmsr},
    {"rdpmc", rdpmc_, Reason::rdpmc},
    {"rdtsc", rdtsc_, Reason::rdtsc},
    {"rdtscp", rdtscp_, Reason::rdtscp},
    {"cpuid", cpuid_, Reason::cpuid},
    {"from cr0", from_cr0, Reason::cr0_read},
    {"to cr0", to_cr0, Reason::cr0_write},
    {"from cr3", from_cr3, Reason::cr3_read},
    {"to cr3", to_cr3, Reason::cr3_write},
    {"from cr4", from_cr4, Reason::cr4_read},
    {"to cr4", to_cr4, Reason::cr4_write},
    {"from cr8", from_cr8, Reason::cr8_read},
    {"to cr8", to_cr8, Reason::cr8_write},
    {"from cr2", from_cr2, Reason::cr_other},
    {"from dr7", from_dr7, Reason::dr_read},
    {"to dr7", to_dr7, Reason::dr_write},
    {"clts", clts_, Reason::cr_other},
    {"lmsw", lmsw_, Reason::cr_other},
    {"lmsw memory", lmsw_memory, Reason::cr_other},
    {"invd", invd_, Reason::invd},
    {"wbinvd", wbinvd_, Reason::wbinvd},
    {"wbnoinvd", wbnoinvd_, Reason::wbinvd},
    {"invlpg", invlpg_, Reason::invlpg},
    {"invlpg sib", invlpg_sib, Reason::invlpg},
    {"invpcid", invpcid_, Reason::invpcid},
    {"lgdt", lgdt_, Reason::gdtr_idtr},
    {"lidt", lidt_, Reason::gdtr_idtr},
    {"sgdt", sgdt_, Reason::gdtr_idtr},
    {"sidt", sidt_, Reason::gdtr_idtr},
    {"lldt", lldt_, Reason::ldtr_tr},
    {"ltr", ltr_, Reason::ldtr_tr},
    {"str", str_, Reason::ldtr_tr},
    {"xsetbv", xsetbv_, Reason::xsetbv},
    {"xsaves", xsaves_, Reason::xsaves},
    {"xrstors", xrstors_, Reason::xsaves},
};

constexpr Case others[]{
    {"nop", nop_, Reason::none},
    {"cli", cli_, Reason::none},
    {"int", int_20, Reason::none},
    {"swapgs", swapgs_, Reason::none},
    {"cmpxchg16b", cmpxchg16b_, Reason::none},
    {"smsw", smsw_, Reason::none},
    {"mov to es", load_far, Reason::none},
    {"load", load_noncanonical, Reason::none},
};

TEST(DecodePrivileged, knows_reason_and_length_of_each) {
    for (const Case& c : privileged) {
        std::vector<u8> code(c.code.begin, c.code.end);
        code.resize(15, 0x90); // what follows is not looked at
        const Decoded decoded = decode_privileged(code);
        EXPECT_EQ(decoded.reason, c.reason) << c.name;
        EXPECT_EQ(decoded.length, c.code.size()) << c.name;
    }
}

TEST(DecodePrivileged, says_nothing_of_others) {
    for (const Case& c : others) {
        EXPECT_EQ(decode_privileged(c.code.bytes()).reason, Reason::none) << c.name;
    }
}

TEST(DecodePrivileged, says_nothing_of_one_that_is_cut) {
    for (const Case& c : privileged) {
        for (usize length = 0; length < c.code.size(); ++length) {
            EXPECT_EQ(decode_privileged(c.code.bytes().first(length)).reason, Reason::none)
                << c.name << " " << length;
        }
    }
    const std::vector<u8> prefixes(20, 0x66);
    EXPECT_EQ(decode_privileged(prefixes).reason, Reason::none);
}

Trap trap(int signal, u64 vector, GuestCode code) {
    return {.signal = signal,
            .vector = vector,
            .error = 0,
            .address = 0,
            .rip = 0x1000,
            .code = code.bytes(),
            .before = {}};
}

TEST(Describe, general_protection_of_a_privileged_instruction_is_that_instruction) {
    const TrapExit hlt = describe(trap(SIGSEGV, 13, hlt_));
    EXPECT_EQ(hlt.exit.reason, static_cast<u16>(Reason::hlt));
    EXPECT_EQ(hlt.exit.vector, 0);
    EXPECT_EQ(hlt.exit.instruction_length, 1u);
    EXPECT_EQ(hlt.exit.next_rip, 0x1001u);
    EXPECT_EQ(hlt.exit.raw_reason, static_cast<u64>(SIGSEGV));
    EXPECT_EQ(hlt.exit.qualification, 13u);
    EXPECT_EQ(hlt.rip, 0x1000u);
}

TEST(Describe, any_other_general_protection_is_the_exception) {
    Trap noncanonical = trap(SIGSEGV, 13, load_noncanonical);
    noncanonical.error = 0x102;
    const TrapExit exit = describe(noncanonical);
    EXPECT_EQ(exit.exit.reason, static_cast<u16>(Reason::exception));
    EXPECT_EQ(exit.exit.vector, 13);
    EXPECT_EQ(exit.exit.interruption_error, 0x102u);
    EXPECT_EQ(exit.exit.instruction_length, 0u);
    EXPECT_EQ(exit.exit.next_rip, 0u);
    // A privileged opcode at RIP means nothing for another vector.
    EXPECT_EQ(describe(trap(SIGILL, 6, hlt_)).exit.reason, static_cast<u16>(Reason::exception));
    EXPECT_EQ(describe(trap(SIGILL, 6, hlt_)).exit.vector, 6);
}

TEST(Describe, page_faults_bring_their_address) {
    Trap fault = trap(SIGSEGV, 14, load_noncanonical);
    fault.error = 6;
    fault.address = 0x7f00'0008;
    const TrapExit exit = describe(fault);
    EXPECT_EQ(exit.exit.vector, 14);
    EXPECT_EQ(exit.exit.interruption_error, 6u);
    EXPECT_EQ(exit.exit.guest_linear, 0x7f00'0008u);
}

TEST(Describe, breakpoints_are_reported_at_their_instruction) {
    const u8 int3[] = {0x90, 0xcc};
    const u8 int_3[] = {0xcd, 0x03};
    const u8 other[] = {0x90, 0x90};
    Trap t = trap(SIGTRAP, 3, nop_);
    t.before = int3;
    EXPECT_EQ(describe(t).rip, 0x0fffu);
    EXPECT_EQ(describe(t).exit.next_rip, 0x1000u);
    EXPECT_EQ(describe(t).exit.instruction_length, 1u);
    t.before = int_3;
    EXPECT_EQ(describe(t).rip, 0x0ffeu);
    t.before = other;
    EXPECT_EQ(describe(t).rip, 0x1000u);
    t.before = std::span{int3}.last(1);
    EXPECT_EQ(describe(t).rip, 0x0fffu);
}

} // namespace
} // namespace refhv::client::self
