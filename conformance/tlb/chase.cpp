// SPDX-License-Identifier: MIT
// What the sweep of family `tlb` rests on: the chain is what it is said to be, and so are the pages.
#include "refhv/front/claim.hpp"
#include "refhv/front/guests/page_chase.hpp"

#include <set>

namespace refhv::front {

class Tlb : public Claim {
  protected:
    [[nodiscard]] abi::Mode mode() const override { return abi::Mode::user; }

    static void check_pages(PageSize size) {
        try {
            const PageMemory& memory = sweep_memory(size);
            if (size != PageSize::kb4) {
                // Large pages are the kernel's to give, and it gives fewer as its memory fragments.
                if (const std::string fault = memory.fault(); !fault.empty()) {
                    GTEST_SKIP() << fault;
                }
                return;
            }
            EXPECT_EQ(memory.fault(), "");
            const u64 groups = memory.bytes() / chase_page / 4;
            // Only where the kernel shows frames. Chance alone leaves next to none.
            if (const u64 contiguous = memory.contiguous_groups().value_or(0); contiguous > groups / 100) {
                GTEST_SKIP() << contiguous << " of " << groups
                             << " groups of four pages are contiguous, so a CPU may join them";
            }
        } catch (const NotOffered& none) {
            GTEST_SKIP() << none.what();
        }
    }
};

// For every length of the sweep, on the memory that the rows will use. A row checks its own chain again.
TEST_F(Tlb, chase_visits_every_page_once) {
    claim({"SDM 3A 4.10.2", "APM 2 5.5"}, [&] {
        for (const PageSize size : page_sizes) {
            try {
                PageMemory& memory = sweep_memory(size);
                for (const u32 lines : sweep_sizes()) {
                    for (const Layout layout : {Layout::spread, Layout::inside}) {
                        EXPECT_EQ(PageChase(memory, layout, lines).fault(), "")
                            << name_of(size) << ", " << lines << " lines";
                    }
                }
            } catch (const NotOffered&) {
                continue; // told by the claim about that size
            }
        }
    });
}

// Neither L1 sets (address bits 6-11) nor those of a second level (bits 6-15) are crowded while others stay
// empty, in either layout; and the layouts take the pages that they say.
TEST_F(Tlb, chase_uses_cache_sets_evenly) {
    claim({"SDM 3A 4.10.2", "APM 2 5.5"}, [&] {
        for (const Layout layout : {Layout::spread, Layout::inside}) {
            std::set<u64> pages;
            for (const u64 block : {64u, 1024u}) {
                for (u64 first = 0; first < most_lines; first += block) {
                    std::set<u64> sets;
                    for (u64 index = first; index < first + block; ++index) {
                        sets.insert(offset_of(layout, index) / 64 % block);
                        pages.insert(offset_of(layout, index) / chase_page);
                    }
                    ASSERT_EQ(sets.size(), block) << "lines from " << first;
                }
            }
            EXPECT_EQ(pages.size(), layout == Layout::spread ? most_lines : most_lines / inside_lines);
        }
    });
}

TEST_F(Tlb, pages_of_4k_have_the_size_asked_for) {
    claim({"SDM 3A 4.5.4", "APM 2 5.3.3"}, [&] { check_pages(PageSize::kb4); });
}

TEST_F(Tlb, pages_of_2m_have_the_size_asked_for) {
    claim({"SDM 3A 4.5.4", "APM 2 5.3.4"}, [&] { check_pages(PageSize::mb2); });
}

TEST_F(Tlb, pages_of_1g_have_the_size_asked_for) {
    claim({"SDM 3A 4.5.4", "APM 2 5.3.5"}, [&] { check_pages(PageSize::gb1); });
}

} // namespace refhv::front
