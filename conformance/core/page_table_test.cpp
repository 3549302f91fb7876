// SPDX-License-Identifier: MIT
// The page-table tree on a memory that remembers every access.
#include "refhv/svm/npt.hpp"
#include "refhv/vmx/ept.hpp"
#include "refhv/x86/page_table.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

namespace refhv::x86 {
namespace {

struct Memory {
    std::map<u64, u64> words;
    std::set<u64> tables;
    std::vector<u64> stores; // addresses, in order
    unsigned limit = 1000;

    bool allocate_table(u64& pa) {
        if (tables.size() >= limit) {
            return false;
        }
        pa = 0x10'0000 + tables.size() * page_size;
        tables.insert(pa);
        return true;
    }
    u64 load(u64 pa) { return words[pa]; }
    void store(u64 pa, u64 entry) {
        EXPECT_TRUE(tables.contains(pa & ~(page_size - 1))) << "a store outside every table";
        EXPECT_EQ(pa % 8, 0u);
        stores.push_back(pa);
        words[pa] = entry;
    }
};

template <class Format>
class PageTableTest : public ::testing::Test {
  protected:
    Memory memory;
    PageTable<Format, Memory> table;
};
using Formats = ::testing::Types<vmx::EptFormat, svm::NptFormat>;
TYPED_TEST_SUITE(PageTableTest, Formats);

TYPED_TEST(PageTableTest, maps_what_it_was_told_and_nothing_else) {
    ASSERT_TRUE(this->table.create(this->memory));
    for (unsigned level = 1; level <= 3; ++level) {
        const u64 size = leaf_size(level);
        const u64 at = level * (u64{1} << 39); // one top-level entry each
        ASSERT_TRUE(this->table.map(this->memory, at, 8 * size, 2 * size, level, Rights::all));
        for (const u64 offset : {u64{0}, size - 1, size, 2 * size - 1}) {
            const auto m = this->table.walk(this->memory, at + offset);
            EXPECT_EQ(m.level, level);
            EXPECT_EQ(TypeParam::address(m.entry) & ~(size - 1), 8 * size + (offset & ~(size - 1)));
            EXPECT_TRUE(TypeParam::present(m.entry));
        }
        EXPECT_FALSE(TypeParam::present(this->table.walk(this->memory, at + 2 * size).entry));
        EXPECT_FALSE(TypeParam::present(this->table.walk(this->memory, at - 1).entry));
    }
}

TYPED_TEST(PageTableTest, changing_one_page_is_one_store) {
    ASSERT_TRUE(this->table.create(this->memory));
    ASSERT_TRUE(this->table.map(this->memory, 0x4000'0000, 0x20'0000, 16 * page_size, 1, Rights::all));
    this->memory.stores.clear();
    ASSERT_TRUE(this->table.map(this->memory, 0x4000'3000, 0x20'3000, page_size, 1, Rights::none));
    EXPECT_EQ(this->memory.stores.size(), 1u);
    EXPECT_FALSE(TypeParam::present(this->table.walk(this->memory, 0x4000'3000).entry));
    EXPECT_TRUE(TypeParam::present(this->table.walk(this->memory, 0x4000'2000).entry));
    EXPECT_TRUE(TypeParam::present(this->table.walk(this->memory, 0x4000'4000).entry));
}

TYPED_TEST(PageTableTest, a_large_leaf_in_the_way_is_an_error) {
    ASSERT_TRUE(this->table.create(this->memory));
    ASSERT_TRUE(this->table.map(this->memory, 0x4000'0000, 0x20'0000, leaf_size(2), 2, Rights::all));
    EXPECT_FALSE(this->table.map(this->memory, 0x4000'1000, 0x20'1000, page_size, 1, Rights::all));
}

TYPED_TEST(PageTableTest, running_out_of_tables_is_an_error) {
    this->memory.limit = 3; // root and two more; a 4-KByte leaf needs four
    ASSERT_TRUE(this->table.create(this->memory));
    EXPECT_FALSE(this->table.map(this->memory, 0, 0x20'0000, page_size, 1, Rights::all));
}

TYPED_TEST(PageTableTest, destroy_releases_every_table_once) {
    ASSERT_TRUE(this->table.create(this->memory));
    ASSERT_TRUE(this->table.map(this->memory, 0, 0, 1024 * page_size, 1, Rights::all));
    ASSERT_TRUE(this->table.map(this->memory, u64{1} << 39, u64{1} << 30, leaf_size(3), 3, Rights::all));
    std::multiset<u64> released;
    this->table.destroy(this->memory, [&](u64 pa) { released.insert(pa); });
    EXPECT_EQ(std::set<u64>(released.begin(), released.end()), this->memory.tables);
    EXPECT_EQ(released.size(), this->memory.tables.size());
}

} // namespace
} // namespace refhv::x86
