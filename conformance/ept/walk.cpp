// SPDX-License-Identifier: MIT
// EPT violations of the guest's own page walks, without and with accessed and dirty flags for EPT.
#include "conformance/nested/walk.hpp"
#include "conformance/ept/case.hpp"

namespace refhv::front {

using client::Guest;
using Flags = WalkList::Flags;
using Walk = WalkList::Walk;

namespace {

constexpr const char* section = "SDM 3C 29.3.3.2, 28.2.1 (table 28-7)";

} // namespace

class EptWalk : public Ept {
  protected:
    // Every pair of rights in the EPT entries of levels 2 and 1 that lead to a guest table, under each of the
    // walks.
    static void check(std::span<const Walk> walks, bool flags_on, bool both_bits = false) {
        const auto rights = valid_rights();
        Guest guest(host(), WalkList::plan(rights.size()));
        if (flags_on) {
            turn_on_accessed_dirty(guest);
        }
        WalkList list(guest, rights.size());
        struct Of {
            u32 high, low;
            Walk walk;
        };
        std::vector<Of> of;
        for (usize i = 0; i < rights.size(); ++i) {
            const u64 region = AccessList::subject + i * 512 * page_size;
            u64 page = region;
            for (const u32 low : rights) {
                for (const Walk& walk : walks) {
                    list.add(walk.level, page, walk.flags);
                    guest.nested_entry(page, 1, ept_leaf(page, 1, low));
                    of.push_back({rights[i], low, walk});
                    page += page_size;
                }
            }
            guest.nested_entry(region, 2, rights[i], abi::nested_entry_table);
        }
        Differences differences;
        const auto& cases = list.run();
        for (usize i = 0; i < cases.size(); ++i) {
            const auto& [high, low, walk] = of[i];
            auto due = walk_violation(high & low, walk.flags != Flags::set, flags_on);
            if (due && flags_on && !both_bits) {
                due->mask &= ~u64{1};
            }
            compare(cases[i], due, WalkList::entry(cases[i].owner),
                    rights_text(high) + " over " + rights_text(low) + ", guest table of level " +
                        std::to_string(walk.level) +
                        (walk.flags == Flags::set              ? ""
                         : walk.flags == Flags::accessed_clear ? ", A clear"
                                                               : ", D clear"),
                    differences);
        }
        combinations(cases.size());
    }
};

TEST_F(EptWalk, reads_the_guests_tables) {
    claim({.sdm = section}, [&] { check(std::span(WalkList::every_walk).first(3), false); });
}

TEST_F(EptWalk, setting_a_flag_in_a_table_is_a_write) {
    claim({.sdm = section}, [&] { check(std::span(WalkList::every_walk).subspan(3), false); });
}

TEST_F(EptWalk, every_use_of_a_table_is_a_write_under_accessed_and_dirty_flags) {
    claim({.sdm = "SDM 3C 29.3.5, 29.3.3.2"}, [&] {
        if (!accessed_dirty()) {
            GTEST_SKIP() << no_accessed_dirty;
        }
        check(WalkList::every_walk, true);
    });
}

TEST_F(EptWalk, such_a_write_is_reported_as_a_read_too) {
    claim({.sdm = "SDM 3C 28.2.1 (table 28-7)"}, [&] {
        if (!accessed_dirty()) {
            GTEST_SKIP() << no_accessed_dirty;
        }
        check(WalkList::every_walk, true, true);
    });
}

} // namespace refhv::front
