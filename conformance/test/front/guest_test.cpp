// SPDX-License-Identifier: MIT
#include "refhv/client/guest/vm.hpp"

#include "conformance/test/front/fake_target.hpp"

#include <gtest/gtest.h>

namespace refhv::client {
namespace {

GUEST(two_nops, "nop\n nop")
SAMPLED_GUEST(one_nop, "", "", "nop")

struct GuestTest : ::testing::Test {
    test::FakeTarget target;
    GuestHost host{.target = target, .occupied = std::nullopt};
};

TEST_F(GuestTest, code_stands_in_the_binary_as_assembled) {
    EXPECT_EQ(two_nops.size(), 2u);
    EXPECT_EQ(two_nops.begin[0], 0x90);
    EXPECT_EQ(one_nop.operation.size(), one_nop.control.size() + 1);
}

TEST_F(GuestTest, code_is_followed_by_a_jump_to_the_stop_stub) {
    Guest g(host, Plan{});
    g.load(two_nops, 3);
    static_cast<void>(g.settle());
    const u64 jump = layout::code + 6;
    EXPECT_EQ(target.byte(jump), 0xe9);
    const auto displacement = static_cast<i64>(static_cast<std::int32_t>(target.quad(jump + 1)));
    EXPECT_EQ(jump + 5 + static_cast<u64>(displacement), layout::stop);
    EXPECT_EQ(target.byte(layout::stop), 0xf4); // HLT
}

// The walk that the CPU would do, by the bits of SDM 3A 4.5.4.
TEST_F(GuestTest, page_tables_map_every_page_to_itself) {
    Plan plan;
    plan.arena_pages = 700;
    Guest g(host, plan);
    static_cast<void>(g.settle());
    constexpr u64 address_bits = 0x000f'ffff'ffff'f000;
    for (u64 page = 0; page < layout::base_pages + 700; ++page) {
        const u64 address = layout::base + page * page_size;
        u64 table = layout::pml4;
        for (unsigned shift : {39u, 30u, 21u, 12u}) {
            const u64 entry = target.quad(table + 8 * (address >> shift & 511));
            ASSERT_EQ(entry & 0x23, 0x23u)
                << "present, writable, accessed at shift " << shift << " of " << address;
            table = entry & address_bits;
        }
        ASSERT_EQ(table, address);
    }
    EXPECT_EQ(target.quad(layout::page_directory + 8 * (u64{REFHV_UNMAPPED} >> 21 & 511)), 0u);
}

TEST_F(GuestTest, descriptors_are_those_of_the_layout) {
    Guest g(host, Plan{});
    static_cast<void>(g.settle());
    EXPECT_EQ(target.quad(layout::gdt + 0x08), 0x00af'9b00'0000'ffffu);
    const u64 low = target.quad(layout::gdt + 0x28);
    EXPECT_EQ((low >> 16 & 0xff'ffff) | (low >> 56) << 24, layout::tss) << "TSS base";
    EXPECT_EQ(low >> 40 & 0xff, 0x8bu) << "present, busy 64-bit TSS";
    for (u64 vector : {0u, 14u, 31u}) {
        const u64 gate = target.quad(layout::idt + 16 * vector);
        EXPECT_EQ((gate & 0xffff) | (gate >> 48) << 16, layout::vectors + 16 * vector);
        EXPECT_EQ(gate >> 40 & 0xff, 0x8eu);
        EXPECT_EQ(target.byte(layout::vectors + 16 * vector), 0x6a) << "push imm8";
    }
    EXPECT_EQ(target.byte(layout::vectors + 16 * 14 + 1), 14) << "#PF brings its error code";
    EXPECT_EQ(target.byte(layout::vectors + 16 * 6 + 1), 0) << "#UD needs one";
}

TEST_F(GuestTest, a_second_guest_takes_the_place_of_the_first) {
    Guest first(host, Plan{});
    static_cast<void>(first.settle());
    Guest second(host, Plan{});
    EXPECT_NO_THROW(static_cast<void>(second.settle()));
}

TEST_F(GuestTest, a_refused_operation_is_told_with_its_reason) {
    target.behaviour.create = abi::Outcome::unsupported;
    Guest g(host, Plan{});
    try {
        static_cast<void>(g.settle());
        FAIL();
    } catch (const Refused& refused) {
        EXPECT_EQ(refused.outcome, abi::Outcome::unsupported);
        EXPECT_NE(std::string(refused.what()).find("no such thing here"), std::string::npos);
    }
}

TEST_F(GuestTest, what_does_not_fit_is_refused) {
    Plan plan;
    plan.arena_pages = layout::max_pages;
    EXPECT_THROW(Guest(host, plan), std::length_error);
    Guest g(host, Plan{});
    EXPECT_THROW(g.load(two_nops, 40'000), std::length_error);
    EXPECT_THROW(g.run({.rounds = 1, .samples = Plan{}.sample_pages * page_size / sizeof(Sample) + 1}),
                 std::length_error);
}

} // namespace
} // namespace refhv::client
