// SPDX-License-Identifier: MIT
// The nested tables as a CPU would walk them, whatever was written into them.
#include "conformance/test/core/fake_hardware.hpp"
#include "refhv/svm/npt.hpp"
#include "refhv/vmx/ept.hpp"

#include <gtest/gtest.h>

namespace refhv {
namespace {

constexpr u64 base = 0x4000'0000;
constexpr u64 pages = 2048; // 8 MBytes
constexpr u64 wb = 6u << 3, large = 1u << 7;

template <class Format>
class NestedTablesTest : public ::testing::Test {
  protected:
    NestedTablesTest() {
        fake::permissions = permit_all;
        fake::reset_memory(u64{32} << 20);
        arena_.init(fake::physical_base, u64{32} << 20);
    }

    void make(abi::PageSize size) {
        memory_ = {.gpa_base = base,
                   .hpa_base = arena_.allocate(pages, 512),
                   .pages = pages,
                   .nested_page_size = size,
                   .tag_policy = {},
                   .slot = 0,
                   .mode = abi::Mode::nested};
        ASSERT_TRUE(tables_.create(arena_, memory_));
    }

    // As the CPU walks: by the entries alone. The leaf or the entry that is not present, and its level.
    abi::NestedEntryReply walk(u64 gpa) const {
        u64 table = tables_.root();
        for (unsigned level = 4;; --level) {
            const u64 at = table + 8 * (gpa / x86::leaf_size(level) % 512);
            const u64 entry = *static_cast<const u64*>(platform::to_virtual(at));
            if (level == 1 || !Format::present(entry) || Format::is_leaf(entry, level)) {
                return {entry, level, 0};
            }
            table = Format::address(entry);
        }
    }
    u64 translate(u64 gpa) const {
        const auto found = walk(gpa);
        return (Format::address(found.entry) & ~(x86::leaf_size(found.level) - 1)) +
               gpa % x86::leaf_size(found.level);
    }

    Status write(u64 gpa, unsigned level, u64 value, u32 flags = 0, u32 count = 1, u64 step = 0) {
        abi::NestedEntryReply before{};
        return tables_.edit(memory_, {0, flags | abi::nested_entry_write, gpa, level, count, value, step},
                            before);
    }
    u64 leaf(u64 gpa, unsigned level) const { return Format::leaf(gpa, level, x86::Rights::all); }

    Arena arena_;
    GuestMemory memory_{};
    NestedTables<Format> tables_;
};

using Formats = ::testing::Types<vmx::EptFormat, svm::NptFormat>;
TYPED_TEST_SUITE(NestedTablesTest, Formats);

TYPED_TEST(NestedTablesTest, map_all_memory_with_leaves_of_the_asked_size) {
    for (const auto size : {abi::PageSize::k4, abi::PageSize::m2}) {
        this->make(size);
        for (u64 page = 0; page < pages; ++page) {
            const u64 gpa = base + page * page_size + 8;
            ASSERT_EQ(this->walk(gpa).level, static_cast<unsigned>(size) + 1);
            ASSERT_EQ(this->translate(gpa), this->memory_.to_physical(gpa));
        }
        this->tables_.destroy(this->arena_);
    }
}

// Memory aligned to 2 MBytes, of which a leaf of 1 GByte would lie elsewhere.
TYPED_TEST(NestedTablesTest, a_leaf_maps_guest_memory_where_it_lies_not_only_where_it_seems_to) {
    this->memory_ = {.gpa_base = base,
                     .hpa_base = u64{5} << 30,
                     .pages = u64{1} << 18,
                     .nested_page_size = abi::PageSize::m2,
                     .tag_policy = {},
                     .slot = 0,
                     .mode = abi::Mode::nested};
    ASSERT_TRUE(this->tables_.create(this->arena_, this->memory_));
    EXPECT_TRUE(this->write(base, 3, this->leaf(base, 3)).ok());
    this->memory_.hpa_base += u64{1} << 21;
    EXPECT_EQ(this->write(base, 3, this->leaf(base, 3)).outcome, abi::Outcome::bad_request);
}

TYPED_TEST(NestedTablesTest, a_small_leaf_in_a_large_one_leaves_the_rest_mapped) {
    this->make(abi::PageSize::m2);
    const u64 hole = base + 512 * page_size + 5 * page_size;
    const u64 other = base + 7 * page_size;
    ASSERT_TRUE(this->write(hole, 1, this->leaf(other, 1)).ok());
    for (u64 page = 0; page < pages; ++page) {
        const u64 gpa = base + page * page_size;
        ASSERT_EQ(this->translate(gpa), this->memory_.to_physical(gpa == hole ? other : gpa)) << page;
        ASSERT_EQ(this->walk(gpa).level, page / 512 == 1 ? 1u : 2u);
    }
    // And back: the large leaf again.
    ASSERT_TRUE(this->write(hole, 2, this->leaf(base + 512 * page_size, 2)).ok());
    EXPECT_EQ(this->walk(hole).level, 2u);
    EXPECT_EQ(this->translate(hole), this->memory_.to_physical(hole));
}

TYPED_TEST(NestedTablesTest, entries_are_written_in_a_row) {
    this->make(abi::PageSize::k4);
    ASSERT_TRUE(this->write(base + 510 * page_size, 1, this->leaf(base, 1), 0, 4, page_size).ok());
    for (u64 i = 0; i < 4; ++i) {
        EXPECT_EQ(this->translate(base + (510 + i) * page_size),
                  this->memory_.to_physical(base + i * page_size));
    }
    abi::NestedEntryReply before{};
    EXPECT_EQ(this->tables_
                  .edit(this->memory_,
                        {0, abi::nested_entry_write, base, 1, 2,
                         this->leaf(base + (pages - 1) * page_size, 1), page_size},
                        before)
                  .outcome,
              abi::Outcome::bad_request)
        << "the second maps what is not guest memory";
    EXPECT_EQ(this->translate(base), this->memory_.to_physical(base)) << "nothing was written";
}

TYPED_TEST(NestedTablesTest, rubbish_is_written_read_back_and_never_followed) {
    for (const unsigned level : {1u, 2u, 3u, 4u}) {
        this->make(abi::PageSize::k4);
        const u64 rubbish = 0xffff'ffff'dead'b007;
        ASSERT_TRUE(this->write(base, level, rubbish, abi::nested_entry_raw).ok());
        abi::NestedEntryReply found{};
        ASSERT_TRUE(this->tables_.edit(this->memory_, {0, 0, base, 1, 1, 0, 0}, found).ok());
        EXPECT_EQ(found.entry, rubbish);
        EXPECT_EQ(found.level, level);
        EXPECT_TRUE(this->tables_.fix(this->memory_, base));
        EXPECT_EQ(this->translate(base), this->memory_.to_physical(base));
        this->tables_.destroy(this->arena_);
        this->arena_.release(this->memory_.hpa_base, pages);
    }
}

TYPED_TEST(NestedTablesTest, a_table_keeps_what_it_maps_while_its_entry_changes) {
    this->make(abi::PageSize::k4);
    for (const unsigned level : {2u, 3u, 4u}) {
        ASSERT_TRUE(this->write(base, level, 0x7, abi::nested_entry_table).ok());
        EXPECT_EQ(this->translate(base + 9 * page_size), this->memory_.to_physical(base + 9 * page_size));
        EXPECT_EQ(this->walk(base).level, 1u);
    }
    for (const unsigned level : {2u, 3u, 4u}) { // bit 7 makes no leaf of a table of ours
        ASSERT_TRUE(this->write(base, level, 0x87, abi::nested_entry_table).ok());
        ASSERT_TRUE(this->write(base, level, 0x7, abi::nested_entry_table).ok());
        EXPECT_EQ(this->translate(base + 9 * page_size), this->memory_.to_physical(base + 9 * page_size));
    }
    ASSERT_TRUE(this->write(base, 2, 0, abi::nested_entry_table).ok());
    EXPECT_EQ(this->walk(base).level, 2u) << "not present";
    ASSERT_TRUE(this->tables_.fix(this->memory_, base));
    EXPECT_EQ(this->translate(base + page_size), this->memory_.to_physical(base + page_size));
}

TYPED_TEST(NestedTablesTest, what_a_fix_maps_is_no_larger_than_what_stood_there) {
    this->make(abi::PageSize::m2);
    ASSERT_TRUE(this->write(base + 3 * page_size, 1, 0).ok());
    ASSERT_TRUE(this->tables_.fix(this->memory_, base + 3 * page_size));
    EXPECT_EQ(this->walk(base + 3 * page_size).level, 1u);
    ASSERT_TRUE(this->write(base, 3, 0).ok());
    ASSERT_TRUE(this->tables_.fix(this->memory_, base + 1027 * page_size));
    EXPECT_EQ(this->walk(base + 1027 * page_size).level, 2u);
    EXPECT_EQ(this->translate(base + 1027 * page_size), this->memory_.to_physical(base + 1027 * page_size));
    EXPECT_FALSE(TypeParam::present(this->walk(base).entry));
    EXPECT_FALSE(this->tables_.fix(this->memory_, base + pages * page_size)) << "no guest memory";
}

TEST(NestedFormats, leaves_split_with_their_attributes) {
    EXPECT_EQ(vmx::EptFormat::part(0x4000'0000 | wb | large | 5, 3, 2), 0x4040'0000 | wb | large | 5);
    EXPECT_EQ(vmx::EptFormat::part(0x4000'0000 | wb | large | 5, 2, 2), 0x4000'2000 | wb | 5);
    EXPECT_EQ(svm::NptFormat::part(0x4000'1087, 2, 1), 0x4000'1087u) << "PAT moves from bit 12 to 7";
    EXPECT_EQ(svm::NptFormat::part(0x4000'0087, 2, 1), 0x4000'1007u);
    EXPECT_EQ(svm::NptFormat::part(0x4000'1087, 3, 1), 0x4020'1087u);
}

} // namespace
} // namespace refhv
