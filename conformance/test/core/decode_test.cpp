// SPDX-License-Identifier: MIT
// The decoder against what the assembler made of each instruction's text.
#include "refhv/x86/decode.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace refhv::x86 {
namespace {

#define BYTES(name, text)                                                                                    \
    asm(".pushsection .rodata\n" #name "_begin: " text "\n" #name "_end: .byte 0\n .popsection");            \
    extern "C" const u8 name##_begin[] asm(#name "_begin");                                                  \
    extern "C" const u8 name##_end[] asm(#name "_end")

BYTES(to_cr3_rax, "mov %rax, %cr3");
BYTES(to_cr4_r9, "mov %r9, %cr4");
BYTES(to_cr8_rbx, "mov %rbx, %cr8");
BYTES(from_cr0_r15, "mov %cr0, %r15");
BYTES(a_clts, "clts");
BYTES(invlpg_rdi, "invlpg (%rdi)");
BYTES(invlpg_r13, "invlpg (%r13)");
BYTES(invlpg_r12_disp8, "invlpg -8(%r12)");
BYTES(invlpg_disp32, "invlpg 0x12345678(%rax)");
BYTES(invlpg_sib, "invlpg 0x10(%rbx, %r9, 4)");
BYTES(invlpg_absolute, "invlpg 0x40000000");
BYTES(invlpg_no_base, "invlpg 0x1000(, %rcx, 8)");
BYTES(invlpg_rip, "invlpg 0x100(%rip)");
BYTES(invlpg_gs, "invlpg %gs:(%rax)");
BYTES(invlpg_addr32, "invlpg (%eax)");
BYTES(invlpg_rbp, "invlpg 8(%rbp)");
BYTES(invpcid_rdx, "invpcid 16(%rdi), %rdx");
BYTES(invpcid_r8, "invpcid (%r8), %r8");
BYTES(legacy_absolute, ".code32\n invlpg 0x40000000\n .code64");
BYTES(legacy_sib, ".code32\n invlpg -4(%esp, %ecx, 2)\n .code64");
BYTES(legacy_fs_16, ".code32\n invlpg %fs:-2(%bp, %di)\n .code64");
BYTES(legacy_to_cr3, ".code32\n mov %eax, %cr3\n .code64");
BYTES(real_bx_si, ".code16\n invlpg 0x1234(%bx, %si)\n .code64");
BYTES(real_absolute, ".code16\n invlpg 0x8000\n .code64");
BYTES(a_nop, "nopl 0(%rax)");

constexpr u64 rip = 0x4002'0000;

u64 registers[16];

Decoded at(const u8* begin, const u8* end, CodeSize size = CodeSize::bits64) {
    for (u64 i = 0; i < 16; ++i) {
        registers[i] = (i + 1) * 0x1'0000'1000;
    }
    return decode({begin, end}, registers, rip, size);
}
#define DECODED(name) at(name##_begin, name##_end)
#define DECODED_32(name) at(name##_begin, name##_end, CodeSize::bits32)
#define DECODED_16(name) at(name##_begin, name##_end, CodeSize::bits16)

TEST(DecodeTest, control_registers) {
    const Decoded a = DECODED(to_cr3_rax), b = DECODED(to_cr4_r9), c = DECODED(to_cr8_rbx),
                  e = DECODED(from_cr0_r15);
    using Kind = Decoded::Kind;
    EXPECT_TRUE(a.kind == Kind::mov_to_cr && a.cr == 3 && a.gpr == 0 && a.length == 3);
    EXPECT_TRUE(b.kind == Kind::mov_to_cr && b.cr == 4 && b.gpr == 9 && b.length == 4);
    EXPECT_TRUE(c.kind == Kind::mov_to_cr && c.cr == 8 && c.gpr == 3);
    EXPECT_TRUE(e.kind == Kind::mov_from_cr && e.cr == 0 && e.gpr == 15);
    EXPECT_TRUE(DECODED(a_clts).kind == Kind::clts && DECODED(a_clts).length == 2);
    EXPECT_TRUE(DECODED(a_nop).kind == Kind::unknown);
}

TEST(DecodeTest, invlpg_addresses) {
    const auto address = [](const Decoded& d) {
        EXPECT_TRUE(d.kind == Decoded::Kind::invlpg);
        return d.address;
    };
    EXPECT_EQ(address(DECODED(invlpg_rdi)), registers[7]);
    EXPECT_EQ(address(DECODED(invlpg_r13)), registers[13]);
    EXPECT_EQ(address(DECODED(invlpg_r12_disp8)), registers[12] - 8);
    EXPECT_EQ(address(DECODED(invlpg_disp32)), registers[0] + 0x1234'5678);
    EXPECT_EQ(address(DECODED(invlpg_sib)), registers[3] + 4 * registers[9] + 0x10);
    EXPECT_EQ(address(DECODED(invlpg_absolute)), 0x4000'0000u);
    EXPECT_EQ(address(DECODED(invlpg_no_base)), 8 * registers[1] + 0x1000);
    EXPECT_EQ(address(DECODED(invlpg_addr32)), static_cast<u32>(registers[0]));
    EXPECT_EQ(DECODED(invlpg_gs).segment, abi::gs);
    EXPECT_EQ(DECODED(invlpg_rdi).segment, abi::ds);
    EXPECT_EQ(DECODED(invlpg_rbp).segment, abi::ss);
    const Decoded relative = DECODED(invlpg_rip);
    EXPECT_EQ(relative.address, rip + relative.length + 0x100);
    EXPECT_EQ(relative.length, invlpg_rip_end - invlpg_rip_begin);
}

TEST(DecodeTest, invpcid_names_its_type_and_descriptor) {
    const Decoded a = DECODED(invpcid_rdx), b = DECODED(invpcid_r8);
    EXPECT_TRUE(a.kind == Decoded::Kind::invpcid && a.gpr == 2 && a.address == registers[7] + 16);
    EXPECT_EQ(a.length, invpcid_rdx_end - invpcid_rdx_begin);
    EXPECT_TRUE(b.kind == Decoded::Kind::invpcid && b.gpr == 8 && b.address == registers[8]);
}

TEST(DecodeTest, code_of_32_and_16_bits) {
    const Decoded absolute = DECODED_32(legacy_absolute), sib = DECODED_32(legacy_sib),
                  fs = DECODED_32(legacy_fs_16), cr = DECODED_32(legacy_to_cr3);
    EXPECT_TRUE(absolute.kind == Decoded::Kind::invlpg && absolute.address == 0x4000'0000);
    EXPECT_EQ(sib.address, static_cast<u32>(registers[4] + 2 * registers[1] - 4));
    EXPECT_EQ(sib.segment, abi::ss);
    EXPECT_EQ(fs.address, static_cast<u16>(registers[5] + registers[7] - 2));
    EXPECT_EQ(fs.segment, abi::fs);
    EXPECT_TRUE(cr.kind == Decoded::Kind::mov_to_cr && cr.cr == 3 && cr.gpr == 0 && cr.length == 3);
    const Decoded bx_si = DECODED_16(real_bx_si), at_8000 = DECODED_16(real_absolute);
    EXPECT_EQ(bx_si.address, static_cast<u16>(registers[3] + registers[6] + 0x1234));
    EXPECT_EQ(bx_si.length, real_bx_si_end - real_bx_si_begin);
    EXPECT_EQ(at_8000.address, 0x8000u);
}

TEST(DecodeTest, a_torn_instruction_is_unknown) {
    for (const u8* end = invlpg_sib_begin; end != invlpg_sib_end; ++end) {
        EXPECT_TRUE(at(invlpg_sib_begin, end).kind == Decoded::Kind::unknown);
    }
}

} // namespace
} // namespace refhv::x86
