// SPDX-License-Identifier: MIT
#include "conformance/test/core/fake_hardware.hpp"
#include "refhv/boot/memory_map.hpp"

#include <algorithm>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <tuple>

namespace refhv {
namespace {

class ArenaTest : public ::testing::Test {
  protected:
    ArenaTest() {
        fake::reset_memory(bytes);
        arena_.init(fake::physical_base, bytes);
    }
    static constexpr u64 bytes = u64{16} << 20;
    Arena arena_;
};

TEST_F(ArenaTest, pages_come_zeroed_aligned_and_apart) {
    std::mt19937 random(1);
    struct Block {
        u64 at, pages;
    };
    std::vector<Block> live;
    for (int step = 0; step < 4000; ++step) {
        if (random() % 3 != 0) {
            const u64 pages = 1 + random() % 40, alignment = u64{1} << random() % 6;
            const u64 at = arena_.allocate(pages, alignment);
            if (at != 0) {
                ASSERT_EQ(at % (alignment * page_size), 0u);
                ASSERT_GE(at, fake::physical_base);
                ASSERT_LE(at + pages * page_size, fake::physical_base + bytes);
                auto* p = static_cast<u8*>(platform::to_virtual(at));
                ASSERT_TRUE(std::all_of(p, p + pages * page_size, [](u8 b) { return b == 0; }));
                std::memset(p, 0xaa, pages * page_size);
                for (const Block& other : live) {
                    ASSERT_TRUE(at + pages * page_size <= other.at ||
                                other.at + other.pages * page_size <= at);
                }
                live.push_back({at, pages});
            }
        } else if (!live.empty()) {
            const usize which = random() % live.size();
            arena_.release(live[which].at, live[which].pages);
            live[which] = live.back();
            live.pop_back();
        }
    }
}

TEST_F(ArenaTest, exhaustion_is_0_and_passes) {
    EXPECT_EQ(arena_.allocate(bytes / page_size), 0u) << "the bitmap takes a page";
    const u64 all = arena_.allocate(bytes / page_size - 1);
    ASSERT_NE(all, 0u);
    EXPECT_EQ(arena_.allocate(), 0u);
    arena_.release(all, bytes / page_size - 1);
    EXPECT_NE(arena_.allocate(), 0u);
}

TEST_F(ArenaTest, a_hole_is_nobodys) {
    constexpr u64 hole = u64{4} << 20, hole_bytes = u64{1} << 20;
    const u64 before = arena_.bytes(), used = arena_.pages_in_use();
    arena_.withhold(fake::physical_base + hole, hole_bytes);
    EXPECT_EQ(arena_.bytes(), before - hole_bytes);
    EXPECT_EQ(arena_.pages_in_use(), used);
    EXPECT_EQ(arena_.allocate((bytes - hole) / page_size), 0u) << "across it";
    u64 pages = 0;
    for (u64 at = arena_.allocate(); at != 0; at = arena_.allocate(), ++pages) {
        ASSERT_TRUE(at < fake::physical_base + hole || at >= fake::physical_base + hole + hole_bytes);
    }
    EXPECT_EQ(pages, (bytes - hole_bytes) / page_size - used);
}

TEST(GuestMemoryTest, contains_does_not_overflow) {
    const GuestMemory m{.gpa_base = 0x4000'0000,
                        .hpa_base = 0,
                        .pages = 2,
                        .nested_page_size = {},
                        .tag_policy = {},
                        .slot = 0,
                        .mode = abi::Mode::nested};
    EXPECT_TRUE(m.contains(0x4000'0000, 0x2000));
    EXPECT_TRUE(m.contains(0x4000'2000, 0));
    EXPECT_FALSE(m.contains(0x4000'0000, 0x2001));
    EXPECT_FALSE(m.contains(0x3fff'ffff, 1));
    EXPECT_FALSE(m.contains(0x4000'1ff8, ~u64{7})) << "the sum is 0x1ff0 modulo 2^64";
    EXPECT_FALSE(m.contains(~u64{0}, ~u64{0}));
}

TEST(MemoryMapTest, the_largest_available_range_inside_the_bounds_wins) {
    const boot::MultibootMapEntry map[] = {{20, 0, 0x9fc00, 1},
                                           {20, 0x10'0000, 0x1000'0000, 1},
                                           {20, 0x2000'0000, 0x4000'0000, 2},
                                           {20, 0xe000'0000, 0x1'0000'0000, 1}};
    boot::MultibootInfo info{};
    info.flags = 1u << 6;
    info.mmap_length = sizeof map;
    const auto to_virtual = [&](u64 at) { return reinterpret_cast<const u8*>(map) + at; };
    const boot::Range r = boot::largest_range(info, 0x20'0123, 0xfe00'0000, to_virtual);
    EXPECT_EQ(r.begin, 0xe000'0000u) << "480 MBytes below the ceiling, against 254";
    EXPECT_EQ(r.end, 0xfe00'0000u);
    const boot::Range low = boot::largest_range(info, 0x20'0123, 0xe000'0000, to_virtual);
    EXPECT_EQ(low.begin, 0x20'1000u);
    EXPECT_EQ(low.end, 0x1010'0000u);
}

TEST(MemoryMapTest, by_pvh_likewise_and_a_map_out_of_reach_is_none) {
    boot::PvhMapEntry map[] = {
        {0, 0x9fc00, 1, 0}, {0x10'0000, 0x1000'0000, 1, 0}, {0x2000'0000, 0x4000'0000, 2, 0}};
    boot::PvhInfo info{};
    info.version = 1;
    info.map_entries = 3;
    const auto to_virtual = [&](u64 at) { return reinterpret_cast<const u8*>(map) + at; };
    const boot::Range r = boot::largest_range(info, 0x20'0123, 0xfe00'0000, to_virtual);
    EXPECT_EQ(r.begin, 0x20'1000u);
    EXPECT_EQ(r.end, 0x1010'0000u);
    map[1].base = u64{1} << 40; // above the ceiling
    EXPECT_EQ(boot::largest_range(info, 0x20'0123, 0xfe00'0000, to_virtual).bytes(), 0u);
    map[1] = {0x10'0000, ~u64{0}, 1, 0}; // its end wraps
    EXPECT_EQ(boot::largest_range(info, 0x20'0123, 0xfe00'0000, to_virtual).end, 0xfe00'0000u);
    for (const auto& [version, address, entries] : {std::tuple{0u, u64{0}, 3u},
                                                    {1u, u64{1} << 32, 3u},
                                                    {1u, (u64{1} << 32) - 24, 2u},
                                                    {1u, u64{0}, ~0u}}) {
        info.version = version;
        info.map = address;
        info.map_entries = entries;
        EXPECT_EQ(boot::largest_range(info, 0x20'0123, 0xfe00'0000, to_virtual).bytes(), 0u) << address;
    }
}

} // namespace
} // namespace refhv
