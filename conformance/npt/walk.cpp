// SPDX-License-Identifier: MIT
// Nested page faults of the guest's own page walks: user accesses, and writes.
#include "conformance/nested/walk.hpp"
#include "conformance/npt/case.hpp"

#include <algorithm>

namespace refhv::front {

using client::Guest;
using Flags = WalkList::Flags;
using Walk = WalkList::Walk;

namespace {

constexpr usize regions_at_once = 5;

} // namespace

class NptWalk : public Npt {
  protected:
    // Which parts of the rule a claim is about.
    struct About {
        std::span<const Walk> walks;
        bool read_only; // tables that may be read only
        bool write_bit; // RW of EXITINFO1
    };

    // Every pair of rights in the nested entries of levels 2 and 1 that lead to a guest table.
    static void check(const About& about) {
        std::vector<u64> rights = every_rights();
        if (!about.read_only) {
            std::erase_if(rights, [](u64 r) { return (r & (p | rw)) == p; });
        }
        Differences differences;
        u64 tried = 0;
        for (usize first = 0; first < rights.size(); first += regions_at_once) {
            const usize here = std::min(regions_at_once, rights.size() - first);
            struct Of {
                u64 high, low;
                Walk walk;
            };
            std::vector<Of> of;
            Guest guest(host(), WalkList::plan(here));
            WalkList list(guest, here);
            for (usize i = 0; i < here; ++i) {
                const u64 region = AccessList::subject + i * 512 * page_size;
                u64 page = region;
                for (const u64 low : rights) {
                    for (const Walk& walk : about.walks) {
                        list.add(walk.level, page, walk.flags);
                        guest.nested_entry(page, 1, page | low);
                        of.push_back({rights[first + i], low, walk});
                        page += page_size;
                    }
                }
                guest.nested_entry(region, 2, rights[first + i], abi::nested_entry_table);
            }
            const auto& cases = list.run();
            for (usize i = 0; i < cases.size(); ++i) {
                const auto& [high, low, walk] = of[i];
                auto due = walk_fault(joined(high, low));
                if (due && !about.write_bit) {
                    due->mask &= ~rw;
                }
                compare(cases[i], due, WalkList::entry(cases[i].owner),
                        text_of(high) + " over " + text_of(low) + ", guest table of level " +
                            std::to_string(walk.level),
                        differences);
            }
            tried += cases.size();
        }
        combinations(tried);
    }
};

TEST_F(NptWalk, walks_are_user_accesses) {
    claim({.apm = "APM 2 15.25.5, 15.25.6"},
          [&] { check({.walks = WalkList::every_walk, .read_only = false, .write_bit = false}); });
}

TEST_F(NptWalk, setting_a_flag_in_a_table_is_a_write) {
    claim({.apm = "APM 2 15.25.6"}, [&] {
        check({.walks = std::span(WalkList::every_walk).subspan(3), .read_only = true, .write_bit = false});
    });
}

TEST_F(NptWalk, every_walk_is_a_write) {
    claim({.apm = "APM 2 15.25.6"}, [&] {
        check({.walks = std::span(WalkList::every_walk).first(3), .read_only = true, .write_bit = false});
    });
}

TEST_F(NptWalk, every_walk_is_reported_as_a_write) {
    claim({.apm = "APM 2 15.25.6"},
          [&] { check({.walks = WalkList::every_walk, .read_only = false, .write_bit = true}); });
}

} // namespace refhv::front
