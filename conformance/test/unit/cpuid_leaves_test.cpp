// SPDX-License-Identifier: MIT
// Enumeration of CPUID (refhv/x86/cpuid_leaves.hpp) on made-up processors and on the one at hand.
#include "refhv/x86/cpuid_leaves.hpp"

#include <cpuid.h>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <vector>

namespace refhv::x86 {
namespace {

using Key = std::pair<u32, u32>;

// A processor by table; leaves that are not in it read as 0.
struct Processor {
    std::map<Key, abi::CpuidLeaf> leaves;
    u64 reads = 0;

    void set(u32 leaf, u32 subleaf, u32 eax, u32 ebx = 0, u32 ecx = 0, u32 edx = 0) {
        leaves[{leaf, subleaf}] = {leaf, subleaf, eax, ebx, ecx, edx};
    }
    [[nodiscard]] std::vector<Key> enumerate() {
        std::vector<Key> keys;
        const u32 count = enumerate_cpuid(
            [this](u32 leaf, u32 subleaf) {
                ++reads;
                const auto found = leaves.find({leaf, subleaf});
                return found != leaves.end() ? found->second : abi::CpuidLeaf{leaf, subleaf, 0, 0, 0, 0};
            },
            [&keys](const abi::CpuidLeaf& l) { keys.emplace_back(l.leaf, l.subleaf); });
        EXPECT_EQ(count, keys.size());
        return keys;
    }
    [[nodiscard]] std::vector<u32> subleaves(u32 leaf) {
        std::vector<u32> found;
        for (const auto& [l, subleaf] : enumerate()) {
            if (l == leaf) {
                found.push_back(subleaf);
            }
        }
        return found;
    }
};

using Numbers = std::vector<u32>;

TEST(CpuidLeaves, basic_and_extended_ranges_end_where_they_say) {
    Processor p;
    p.set(0, 0, 2);
    p.set(0x8000'0000, 0, 0x8000'0001);
    EXPECT_EQ(p.enumerate(), (std::vector<Key>{{0, 0}, {1, 0}, {2, 0}, {0x8000'0000, 0}, {0x8000'0001, 0}}));
}

TEST(CpuidLeaves, leaves_with_subleaves_count_them_each_in_its_way) {
    Processor p;
    p.set(0, 0, 0x24);
    p.set(0x8000'0000, 0, 0x8000'0026);
    for (u32 i = 0; i < 3; ++i) {
        p.set(4, i, 1 + i);
        p.set(0x8000'001d, i, 1);
        p.set(0xb, i, 1, 1, i | (i + 1) << 8);
        p.set(0x8000'0026, i, 0, 0, 0x100);
    }
    p.set(7, 0, 2, 1u << 2);               // two more subleaves; SGX
    p.set(0xd, 0, 0x7, 0, 0, 0x4000'0000); // x87, SSE, AVX; bit 62
    p.set(0xd, 1, 0, 0, 1u << 8);          // PT
    p.set(0xf, 0, 0, 0, 0, 2);
    p.set(0x10, 0, 0, 0b1010);
    p.set(0x12, 2, 1);
    p.set(0x12, 3, 1);
    p.set(0x14, 0, 1);
    p.set(0x17, 0, 3);
    p.set(0x18, 0, 4);
    p.set(0x23, 0, 0b1011);
    p.set(0x8000'0020, 0, 0, 0b10);
    EXPECT_EQ(p.subleaves(4), (Numbers{0, 1, 2}));
    EXPECT_EQ(p.subleaves(0x8000'001d), (Numbers{0, 1, 2}));
    EXPECT_EQ(p.subleaves(0xb), (Numbers{0, 1, 2}));
    EXPECT_EQ(p.subleaves(0x8000'0026), (Numbers{0, 1, 2}));
    EXPECT_EQ(p.subleaves(0x1f), (Numbers{0}));
    EXPECT_EQ(p.subleaves(7), (Numbers{0, 1, 2}));
    EXPECT_EQ(p.subleaves(0xd), (Numbers{0, 1, 2, 8, 62}));
    EXPECT_EQ(p.subleaves(0xf), (Numbers{0, 1}));
    EXPECT_EQ(p.subleaves(0x10), (Numbers{0, 1, 3}));
    EXPECT_EQ(p.subleaves(0x12), (Numbers{0, 1, 2, 3}));
    EXPECT_EQ(p.subleaves(0x14), (Numbers{0, 1}));
    EXPECT_EQ(p.subleaves(0x17), (Numbers{0, 1, 2, 3}));
    EXPECT_EQ(p.subleaves(0x18), (Numbers{0, 1, 2, 3, 4}));
    EXPECT_EQ(p.subleaves(0x23), (Numbers{0, 1, 3}));
    EXPECT_EQ(p.subleaves(0x8000'0020), (Numbers{0, 1}));
}

TEST(CpuidLeaves, sgx_sections_are_read_only_where_sgx_is) {
    Processor p;
    p.set(0, 0, 0x12);
    p.set(0x12, 2, 1);
    EXPECT_EQ(p.subleaves(0x12), (Numbers{0}));
}

TEST(CpuidLeaves, hypervisor_range_only_where_one_is_announced) {
    Processor p;
    p.set(0, 0, 1);
    p.set(0x4000'0000, 0, 0x4000'0001);
    EXPECT_EQ(p.subleaves(0x4000'0000), Numbers{});
    p.set(1, 0, 0, 0, 1u << 31);
    EXPECT_EQ(p.subleaves(0x4000'0000), Numbers{0});
    EXPECT_EQ(p.subleaves(0x4000'0001), Numbers{0});
    EXPECT_EQ(p.subleaves(0x4000'0100), Numbers{});
    p.set(0x4000'0100, 0, 0x4000'0101);
    EXPECT_EQ(p.subleaves(0x4000'0101), Numbers{0});
}

TEST(CpuidLeaves, a_processor_that_says_yes_to_everything_is_bounded) {
    u64 reads = 0;
    const u32 count = enumerate_cpuid(
        [&reads](u32 leaf, u32 subleaf) {
            ++reads;
            return abi::CpuidLeaf{leaf, subleaf, ~0u, ~0u, ~0u, ~0u};
        },
        [](const abi::CpuidLeaf&) {});
    EXPECT_LE(count, max_cpuid_leaves);
    Processor all;
    all.set(0, 0, 0xff);
    all.set(0x8000'0000, 0, 0x8000'00ff);
    for (u32 leaf = 1; leaf <= 0xff; ++leaf) {
        for (u32 subleaf = 0; subleaf < 64; ++subleaf) {
            all.set(leaf, subleaf, ~0u, ~0u, ~0u, ~0u);
            all.set(0x8000'0000 + leaf, subleaf, ~0u, ~0u, ~0u, ~0u);
        }
    }
    const std::vector<Key> keys = all.enumerate();
    EXPECT_LE(keys.size(), max_cpuid_leaves);
    EXPECT_LE(all.reads, 4 * max_cpuid_leaves);
}

TEST(CpuidLeaves, of_this_cpu_agree_with_the_compilers_cpuid_h) {
    std::set<Key> keys;
    std::map<u32, u32> last; // range -> last leaf
    enumerate_cpuid([&](const abi::CpuidLeaf& l) {
        EXPECT_TRUE(keys.insert({l.leaf, l.subleaf}).second) << std::hex << l.leaf << "." << l.subleaf;
        last[l.leaf & 0xffff'0000] = l.leaf;
    });
    EXPECT_EQ(last.at(0), __get_cpuid_max(0, nullptr));
    EXPECT_EQ(last.at(0x8000'0000), __get_cpuid_max(0x8000'0000, nullptr));
    u32 eax = 0;
    u32 ebx = 0;
    u32 ecx = 0;
    u32 edx = 0;
    ASSERT_TRUE(__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx));
    EXPECT_TRUE(keys.contains({0xd, 1}));
    EXPECT_EQ(keys.contains({0xd, 2}), (eax & 4) != 0); // AVX
}

} // namespace
} // namespace refhv::x86
