// SPDX-License-Identifier: MIT
// The registers of a local APIC and its timer, by SDM 3A chapter 11.
#include "conformance/test/monitor/local_apic_fixture.hpp"

#include <algorithm>

namespace refhv::monitor {
namespace {

using test::Vectors;

class LocalApicRegisters : public test::LocalApicFixture {};

TEST_F(LocalApicRegisters, after_power_up) {
    apic.reset();
    EXPECT_EQ(apic.read_msr(0x1b), 0xfee0'0900U);
    EXPECT_EQ(apic.address(), 0xfee0'0000U);
    EXPECT_EQ(in(0x20), 0x0300'0000U);
    EXPECT_EQ(in(0x30), 0x5'0014U);
    EXPECT_EQ(in(0xe0), 0xffff'ffffU);
    EXPECT_EQ(in(0xf0), 0xffU);
    for (u64 at = 0x320; at <= 0x370; at += 0x10) {
        EXPECT_EQ(in(at), 0x1'0000U) << at;
    }
    for (const u64 at : {0x80, 0xa0, 0xd0, 0x280, 0x300, 0x310, 0x380, 0x390, 0x3e0}) {
        EXPECT_EQ(in(at), 0U) << at;
    }
    for (u64 at = 0x100; at < 0x280; at += 0x10) {
        EXPECT_EQ(in(at), 0U) << at;
    }
}

TEST_F(LocalApicRegisters, keep_the_bits_that_they_have) {
    const std::vector<std::pair<u64, u32>> bits{{0x80, 0xff},         {0xd0, 0xff00'0000}, {0xf0, 0x3ff},
                                                {0x310, 0xff00'0000}, {0x320, 0x7'00ff},   {0x330, 0x1'07ff},
                                                {0x340, 0x1'07ff},    {0x350, 0x1'a7ff},   {0x360, 0x1'a7ff},
                                                {0x370, 0x1'00ff},    {0x3e0, 0xb}};
    for (const auto& [at, mask] : bits) {
        out(at, ~0U);
        EXPECT_EQ(in(at), mask) << std::hex << at;
    }
    out(0x20, 0);
    out(0x30, 0);
    EXPECT_EQ(in(0x20), 0x0300'0000U);
    EXPECT_EQ(in(0x30), 0x5'0014U);
    EXPECT_EQ(errors(), 0U);
}

TEST_F(LocalApicRegisters, accesses_of_other_kinds) {
    EXPECT_EQ(in(0x40), ~0U);
    EXPECT_EQ(errors(), 0x80U) << "illegal register address";
    out(0x3f0, 0x55);
    EXPECT_EQ(errors(), 0x80U) << "SELF IPI is x2APIC's";
    EXPECT_EQ(apic.read(0x32, 1), 0x05U) << "a byte of a register";
    EXPECT_EQ(apic.read(0x30, 2), 0x0014U);
    EXPECT_EQ(apic.read(0x34, 4), 0xffff'ffffU);
    apic.write(0x80, 1, 0x20);
    apic.write(0x84, 4, 0x20);
    EXPECT_EQ(in(0x80), 0U) << "written as a whole or not at all";
    apic.write(0x80, 8, 0x20);
    EXPECT_EQ(in(0x80), 0x20U);
    EXPECT_EQ(apic.read(0x1000, 4), 0xffff'ffffU);
}

TEST_F(LocalApicRegisters, one_shot_timer) {
    out(0x320, 0x40);
    out(0x3e0, 0xb);
    apic.pass(100);
    out(0x380, 1000);
    EXPECT_EQ(apic.due(), 1100U);
    apic.pass(600);
    EXPECT_EQ(in(0x390), 500U);
    EXPECT_EQ(in(0x380), 1000U);
    apic.pass(1099);
    EXPECT_EQ(in(0x390), 1U);
    EXPECT_EQ(taken(), Vectors());
    apic.pass(1100);
    EXPECT_EQ(in(0x390), 0U);
    EXPECT_EQ(taken(), Vectors({0x40}));
    EXPECT_EQ(apic.due(), std::nullopt);
    apic.pass(10'000);
    EXPECT_EQ(taken(), Vectors());
    out(0x380, 1000);
    out(0x380, 0);
    EXPECT_EQ(apic.due(), std::nullopt) << "0 stops it";
    out(0x380, 1000);
    out(0x320, 0x1'0040);
    EXPECT_EQ(apic.due(), std::nullopt) << "masked";
    apic.pass(20'000);
    out(0x320, 0x40);
    EXPECT_EQ(taken(), Vectors());
}

TEST_F(LocalApicRegisters, divisors) {
    constexpr std::array<std::pair<u32, u64>, 8> values{
        {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}}};
    out(0x320, 0x40);
    for (const auto& [value, divisor] : values) {
        apic.pass(0);
        out(0x3e0, value);
        out(0x380, 1000);
        EXPECT_EQ(apic.due(), 1000 * divisor);
    }
    out(0x3e0, 0);
    out(0x380, 1000);
    apic.pass(1000);
    EXPECT_EQ(in(0x390), 500U);
    out(0x3e0, 1);
    EXPECT_EQ(in(0x390), 500U);
    EXPECT_EQ(apic.due(), 3000U) << "the rest at the new rate";
}

TEST_F(LocalApicRegisters, periodic_timer) {
    out(0x320, 0x2'0041);
    out(0x3e0, 0xb);
    out(0x380, 100);
    for (Time now = 100; now < 1000; now += 100) {
        EXPECT_EQ(apic.due(), now);
        apic.pass(now);
        EXPECT_EQ(taken(), Vectors({0x41}));
        EXPECT_EQ(in(0x390), 100U);
    }
    apic.pass(1234);
    EXPECT_EQ(taken(), Vectors({0x41})) << "what was missed is one";
    EXPECT_EQ(in(0x390), 66U);
    EXPECT_EQ(apic.due(), 1300U) << "in step";
}

TEST_F(LocalApicRegisters, tsc_deadline) {
    EXPECT_TRUE(apic.write_msr(0x6e0, 1000));
    EXPECT_EQ(apic.read_msr(0x6e0), 0U) << "not in that mode";
    out(0x320, 0x4'0042);
    out(0x380, 1000);
    EXPECT_EQ(apic.due(), std::nullopt) << "the count is not";
    EXPECT_TRUE(apic.write_msr(0x6e0, 1000));
    EXPECT_EQ(apic.read_msr(0x6e0), 1000U);
    EXPECT_EQ(in(0x390), 0U);
    EXPECT_EQ(apic.due(), 500U);
    apic.pass(499);
    EXPECT_EQ(taken(), Vectors());
    apic.pass(500);
    EXPECT_EQ(taken(), Vectors({0x42}));
    EXPECT_EQ(apic.read_msr(0x6e0), 0U) << "once";
    EXPECT_TRUE(apic.write_msr(0x6e0, 900));
    EXPECT_EQ(taken(), Vectors({0x42})) << "gone by already";
    EXPECT_TRUE(apic.write_msr(0x6e0, 5000));
    EXPECT_TRUE(apic.write_msr(0x6e0, 0));
    EXPECT_EQ(apic.due(), std::nullopt);
    EXPECT_TRUE(apic.write_msr(0x6e0, 5000));
    out(0x320, 0x42);
    EXPECT_EQ(apic.due(), std::nullopt) << "another mode disarms it";
    EXPECT_EQ(apic.read_msr(0x6e0), 0U);
}

TEST_F(LocalApicRegisters, transitions_between_modes) {
    constexpr u64 off = 0xfee0'0100, x1 = off | 0x800, x2 = off | 0xc00, bad = off | 0x400;
    const auto set = [&](u64 value) { return apic.write_msr(0x1b, value); };
    EXPECT_FALSE(set(bad));
    EXPECT_EQ(apic.read_msr(0x1b), x1);
    EXPECT_TRUE(set(x2));
    EXPECT_FALSE(set(x1));
    EXPECT_FALSE(set(bad));
    EXPECT_TRUE(set(x2));
    EXPECT_EQ(in(0x30), ~0U) << "the page is gone";
    out(0x80, 0x70);
    EXPECT_EQ(apic.read_msr(0x808), 0U);
    EXPECT_TRUE(set(off));
    EXPECT_FALSE(set(x2));
    EXPECT_FALSE(set(bad));
    EXPECT_EQ(in(0x30), ~0U);
    EXPECT_FALSE(apic.deliver(0x40, false));
    EXPECT_TRUE(set(x1));
    EXPECT_EQ(in(0xf0), 0xffU) << "as after power-up";
    EXPECT_FALSE(set(x1 | 1));
    EXPECT_FALSE(set(x1 | u64{1} << 40)) << "beyond MAXPHYADDR";
    EXPECT_TRUE(set(0x80'0000'0900));
    EXPECT_EQ(apic.address(), 0x80'0000'0000U);
}

TEST_F(LocalApicRegisters, msrs_of_x2apic_mode) {
    EXPECT_EQ(apic.read_msr(0x803), std::nullopt) << "in xAPIC mode";
    EXPECT_FALSE(apic.write_msr(0x80b, 0));
    out(0x80, 0x20);
    out(0x310, 0x0300'0000);
    to_x2apic();
    std::vector<u32> readable;
    for (u32 i = 0x7ff; i <= 0xc00; i++) {
        if (apic.read_msr(i)) {
            readable.push_back(i);
        }
    }
    std::vector<u32> expected{0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f};
    for (u32 i = 0x810; i <= 0x828; i++) {
        expected.push_back(i);
    }
    for (const u32 i : {0x830, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837, 0x838, 0x839, 0x83e}) {
        expected.push_back(i);
    }
    EXPECT_EQ(readable, expected);
    EXPECT_EQ(apic.read_msr(0x802), 3U);
    EXPECT_EQ(apic.read_msr(0x808), 0x20U) << "kept";
    EXPECT_EQ(apic.read_msr(0x80d), 8U);
    EXPECT_EQ(apic.read_msr(0x830), 0U) << "the destination is not";
}

TEST_F(LocalApicRegisters, reserved_bits_of_msrs) {
    to_x2apic();
    const std::vector<std::pair<u32, u64>> bits{{0x808, 0xff},
                                                {0x80b, 0},
                                                {0x80f, 0x3ff},
                                                {0x828, 0},
                                                {0x830, 0xffff'ffff'000c'cfff},
                                                {0x832, 0x7'10ff},
                                                {0x833, 0x1'17ff},
                                                {0x834, 0x1'17ff},
                                                {0x835, 0x1'f7ff},
                                                {0x836, 0x1'f7ff},
                                                {0x837, 0x1'10ff},
                                                {0x838, 0xffff'ffff},
                                                {0x83e, 0xb},
                                                {0x83f, 0xff}};
    for (u32 i = 0x800; i <= 0xbff; i++) {
        const auto known = std::ranges::find(bits, i, &std::pair<u32, u64>::first);
        if (known == bits.end()) {
            EXPECT_FALSE(apic.write_msr(i, 0)) << std::hex << i;
            continue;
        }
        for (unsigned bit = 0; bit < 64; bit++) {
            EXPECT_EQ(apic.write_msr(i, u64{1} << bit), (known->second >> bit & 1) != 0)
                << std::hex << i << " bit " << bit;
        }
    }
}

TEST_F(LocalApicRegisters, interrupts_by_msr) {
    to_x2apic();
    EXPECT_TRUE(apic.write_msr(0x83f, 0x55));
    EXPECT_EQ(apic.read_msr(0x822), u64{1} << 21);
    EXPECT_EQ(apic.acknowledge(), 0x55);
    EXPECT_TRUE(apic.write_msr(0x80b, 0));
    EXPECT_EQ(apic.read_msr(0x812), 0U);
    EXPECT_TRUE(apic.write_msr(0x83f, 0x0f));
    EXPECT_TRUE(apic.write_msr(0x828, 0));
    EXPECT_EQ(apic.read_msr(0x828), 0x20U);
    EXPECT_TRUE(apic.write_msr(0x830, u64{3} << 32 | 0x56));
    EXPECT_EQ(apic.pending(), 0x56);
    EXPECT_EQ(apic.read_msr(0x830), u64{3} << 32 | 0x56);
}

} // namespace
} // namespace refhv::monitor
