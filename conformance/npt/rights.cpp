// SPDX-License-Identifier: MIT
// Nested page faults: which access which rights refuse, and what EXITINFO1 and EXITINFO2 say about it.
#include "conformance/npt/case.hpp"

#include <algorithm>

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

constexpr u64 large_page = 512 * page_size;
constexpr usize regions_at_once = 5; // 2 MBytes each, as many as the guest has room for
constexpr const char* section = "APM 2 15.25.5, 15.25.6";

GUEST(guest_nothing, "nop\n")

} // namespace

class NptRights : public Npt {
  protected:
    // Calls make(guest, list, region's address, rights) for each of `every_rights`, several in one run, and
    // check(case) for each case.
    template <class Make, class Check>
    static void in_regions(Make make, Check check) {
        const auto rights = every_rights();
        Differences differences;
        u64 tried = 0;
        for (usize first = 0; first < rights.size(); first += regions_at_once) {
            const usize here = std::min(regions_at_once, rights.size() - first);
            Guest guest(host(), AccessList::plan(here * 512));
            AccessList list(guest);
            for (usize i = 0; i < here; ++i) {
                make(guest, list, AccessList::subject + i * large_page, rights[first + i]);
            }
            const auto& cases = list.run();
            for (usize i = 0; i < cases.size(); ++i) {
                check(cases[i], tried + i, differences);
            }
            tried += cases.size();
        }
        combinations(tried);
    }
};

// Every pair of rights in the entries of levels 2 and 1, under every access.
TEST_F(NptRights, rights_of_two_levels_are_joined) {
    claim({.apm = section}, [&] {
        std::vector<std::pair<u64, u64>> of;
        in_regions(
            [&](Guest& guest, AccessList& list, u64 region, u64 high) {
                u64 page = region;
                for (const u64 low : every_rights()) {
                    for (const Access access : every_access) {
                        guest.nested_entry(page, 1, page | low);
                        list.add(access, page);
                        of.emplace_back(high, low);
                        page += page_size;
                    }
                }
                guest.nested_entry(region, 2, high, abi::nested_entry_table);
            },
            [&](const AccessList::Case& c, usize i, Differences& differences) {
                const auto [high, low] = of[i];
                compare(c, fault(c.access, joined(high, low)), c.owner + AccessList::offset(c.access),
                        text_of(high) + " over " + text_of(low), differences);
            });
    });
}

TEST_F(NptRights, rights_of_a_2m_leaf) {
    claim({.apm = section}, [&] {
        std::vector<u64> of;
        in_regions(
            [&](Guest& guest, AccessList& list, u64 region, u64 rights) {
                u64 page = region;
                for (const Access access : every_access) {
                    list.add(access, page);
                    of.push_back(rights);
                    page += 37 * page_size;
                }
                guest.nested_entry(region, 2, region | rights | large);
            },
            [&](const AccessList::Case& c, usize i, Differences& differences) {
                compare(c, fault(c.access, of[i]), c.owner + AccessList::offset(c.access),
                        text_of(of[i]) + " in a 2M leaf", differences);
            });
    });
}

// The entries of levels 4 and 3 are those of the guest's code as well: whatever they refuse, the guest's
// first fetch is refused. The walk for it comes first.
TEST_F(NptRights, rights_of_the_upper_levels) {
    claim({.apm = section}, [&] {
        Guest guest(host(), client::Plan{});
        guest.load(guest_nothing);
        u64 tried = 0;
        for (const unsigned level : {4u, 3u}) {
            for (const u64 rights : every_rights()) {
                SCOPED_TRACE(text_of(rights) + " at level " + std::to_string(level));
                guest.nested_entry(client::layout::base, level, rights, abi::nested_entry_table);
                guest.invalidate(abi::Invalidation::asid_fresh);
                const auto r = guest.run({});
                ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
                ++tried;
                const auto walk = walk_fault(rights);
                const auto due = walk ? walk : fault(Access::fetch, rights);
                if (!due) {
                    expect_stopped(r);
                    continue;
                }
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
                EXPECT_EQ(r.reply.exit.qualification & due->mask, due->value) << "EXITINFO1";
                EXPECT_EQ(r.reply.exit.info, walk ? client::layout::pml4 : client::layout::code)
                    << "EXITINFO2";
            }
            guest.nested_entry(client::layout::base, level, p | rw | us, abi::nested_entry_table);
        }
        combinations(tried);
    });
}

TEST_F(NptRights, rights_of_a_1g_leaf) {
    claim({.apm = section}, [&] {
        if (!offers_1g()) {
            GTEST_SKIP() << "no pages of 1 GByte (CPUID.80000001H:EDX.Page1GB[26])";
        }
        client::Plan plan;
        plan.nested_page_size = abi::PageSize::g1;
        Guest guest(host(), plan);
        guest.load(guest_nothing);
        try {
            (void)guest.settle();
        } catch (const client::Refused& refused) {
            if (refused.outcome != abi::Outcome::exhausted) {
                throw;
            }
            GTEST_SKIP() << refused.what();
        }
        constexpr u64 base = client::layout::base;
        for (const u64 rights : every_rights()) {
            SCOPED_TRACE(text_of(rights));
            guest.nested_entry(base, 3, base | rights | large);
            guest.invalidate(abi::Invalidation::asid_fresh);
            const auto r = guest.run({});
            const auto walk = walk_fault(rights);
            const auto due = walk ? walk : fault(Access::fetch, rights);
            if (!due) {
                expect_stopped(r);
                continue;
            }
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
            EXPECT_EQ(r.reply.exit.qualification & due->mask, due->value) << "EXITINFO1";
        }
        combinations(every_rights().size());
    });
}

// The nested tables are ordinary ones: their flags are set as such.
TEST_F(NptRights, accessed_and_dirty_are_set) {
    claim({.apm = "APM 2 15.25.5, 5.4.2"}, [&] {
        Guest guest(host(), AccessList::plan(512));
        AccessList list(guest);
        u64 page = AccessList::subject;
        for (const Access access : every_access) {
            guest.nested_entry(page, 1, page | p | rw | us);
            list.add(access, page);
            page += page_size;
        }
        guest.nested_entry(page, 1, page | p | rw | us);
        for (const AccessList::Case& c : list.run()) {
            EXPECT_FALSE(c.exit) << name_of(c.access);
            const bool writes = c.access != Access::read && c.access != Access::fetch;
            EXPECT_EQ(guest.nested_entry_at(c.owner).entry & (accessed | dirty),
                      writes ? accessed | dirty : accessed)
                << name_of(c.access);
        }
        EXPECT_EQ(guest.nested_entry_at(page).entry & dirty, 0u) << "not written";
        combinations(std::size(every_access));
    });
}

} // namespace refhv::front
