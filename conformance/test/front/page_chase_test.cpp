// SPDX-License-Identifier: MIT
// What the sweep of family tlb is made of, on pages of this machine and on texts of the kernel's.
#include "refhv/front/guests/page_chase.hpp"
#include "refhv/front/guests/walk_counter.hpp"

#include <gtest/gtest.h>
#include <linux/perf_event.h>
#include <set>
#include <sstream>
#include <sys/mman.h>

namespace refhv::front {
namespace {

TEST(FullCycle, is_one_cycle_through_everything) {
    for (const u64 count : {1u, 2u, 3u, 97u, 4096u}) {
        const auto next = full_cycle(count, 1);
        std::set<u32> seen;
        u32 at = 0;
        for (u64 i = 0; i < count; ++i, at = next[at]) {
            seen.insert(at);
        }
        EXPECT_EQ(seen.size(), count);
        EXPECT_EQ(at, 0u);
    }
}

TEST(FullCycle, is_drawn_from_its_seed) {
    EXPECT_EQ(full_cycle(1000, 1), full_cycle(1000, 1));
    EXPECT_NE(full_cycle(1000, 1), full_cycle(1000, 2));
    // No order that a stride prefetcher could follow.
    const auto next = full_cycle(1000, 1);
    std::set<i64> strides;
    for (i64 i = 0; i < 1000; ++i) {
        strides.insert(next[static_cast<usize>(i)] - i);
    }
    EXPECT_GT(strides.size(), 500u);
}

TEST(SweepSizes, are_powers_of_two_and_the_halves_between) {
    const auto sizes = sweep_sizes();
    EXPECT_EQ(sizes.front(), 8u);
    EXPECT_EQ(sizes[1], 12u);
    EXPECT_EQ(sizes[2], 16u);
    EXPECT_EQ(sizes.back(), most_lines);
}

TEST(Layouts, find_the_line_of_an_offset) {
    for (const Layout layout : {Layout::spread, Layout::inside}) {
        for (u64 index = 0; index < 3000; ++index) {
            ASSERT_EQ(index_at(layout, offset_of(layout, index)), index);
        }
    }
}

struct PageChaseTest : ::testing::Test {
    PageMemory memory{PageSize::kb4, 256 * chase_page};
};

TEST_F(PageChaseTest, a_sound_chain_has_no_fault) {
    for (const Layout layout : {Layout::spread, Layout::inside}) {
        for (const u32 lines : {1u, 8u, 96u, 256u}) {
            EXPECT_EQ(PageChase(memory, layout, lines).fault(), "");
        }
    }
}

TEST_F(PageChaseTest, a_chain_that_leaves_lines_out_is_found) {
    PageChase chase(memory, Layout::spread, 100);
    auto** first = reinterpret_cast<void**>(memory.base());
    auto** second = static_cast<void**>(*first);
    *first = *second;
    EXPECT_EQ(chase.fault(), "back at the start after 99 of 100 steps");
}

TEST_F(PageChaseTest, a_chain_that_never_comes_back_is_found) {
    PageChase chase(memory, Layout::spread, 100);
    auto** first = reinterpret_cast<void**>(memory.base());
    auto** second = static_cast<void**>(*first);
    *second = static_cast<void*>(second);
    EXPECT_NE(chase.fault().find("again"), std::string::npos);
}

TEST_F(PageChaseTest, a_chain_that_leads_astray_is_found) {
    PageChase chase(memory, Layout::spread, 100);
    *reinterpret_cast<void**>(memory.base()) = memory.base() + 8;
    EXPECT_NE(chase.fault().find("no line of the chain"), std::string::npos);
}

TEST_F(PageChaseTest, samples_go_on_where_the_last_one_stopped) {
    PageChase chase(memory, Layout::spread, 64);
    const auto first = chase.sample(64);
    const auto empty = chase.sample(0);
    EXPECT_GT(first.end, first.start);
    EXPECT_GE(empty.start, first.end);
    EXPECT_EQ(chase.fault(), "");
}

TEST_F(PageChaseTest, memory_says_what_it_is) {
    EXPECT_EQ(memory.fault(), "");
    EXPECT_EQ(memory.bytes(), 256 * chase_page);
    ASSERT_EQ(madvise(memory.base(), chase_page, MADV_DONTNEED), 0);
    EXPECT_EQ(memory.fault(), "of 1024 kB, smaps knows 1024 and has 1020 in memory");
}

TEST(Smaps, counts_what_lies_inside_only) {
    std::istringstream text(
        "1000-3000 rw-p 00000000 00:00 0 \n"
        "Size:                  8 kB\nKernelPageSize:        4 kB\nRss:                   8 kB\n"
        "AnonHugePages:         0 kB\n"
        "200000-600000 rw-p 00000000 00:00 0 \n"
        "KernelPageSize:        4 kB\nRss:                4096 kB\nAnonHugePages:      2048 kB\n"
        "VmFlags: rd wr mr mw me ac hg \n"
        "600000-800000 rw-p 00000000 00:0f 12 /anon_hugepage (deleted)\n"
        "KernelPageSize:     2048 kB\nRss:                   0 kB\nPrivate_Hugetlb:    2048 kB\n");
    const MappingFacts facts = read_smaps(text, 0x200000, 0x800000);
    EXPECT_EQ(facts.mapped, 6144u);
    EXPECT_EQ(facts.resident, 6144u);
    EXPECT_EQ(facts.transparent_huge, 2048u);
    EXPECT_EQ(facts.smallest_page, 4u);
    EXPECT_EQ(facts.largest_page, 2048u);
}

// The hardware's own events are rare in virtual machines; the kernel's count page faults everywhere.
TEST(WalkCounter, counts_between_start_and_stop) {
    WalkCounter faults(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, "page-faults");
    if (!faults.missing().empty()) {
        GTEST_SKIP() << faults.missing();
    }
    faults.start();
    EXPECT_EQ(faults.stop(), 0u);
    faults.start();
    const PageMemory memory(PageSize::kb4, 64 * chase_page);
    EXPECT_GE(faults.stop().value_or(0), 64u);
}

TEST(WalkCounter, says_why_there_is_none) {
    WalkCounter none(0xffff, 0, "no such event");
    EXPECT_NE(none.missing().find("perf_event_open of no such event: "), std::string::npos);
    none.start();
    EXPECT_EQ(none.stop(), std::nullopt);
}

} // namespace
} // namespace refhv::front
