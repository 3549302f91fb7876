// SPDX-License-Identifier: MIT
// EPT violations: which access which rights refuse, and what the exit qualification says about it.
#include "conformance/ept/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

constexpr u64 large_page = 512 * page_size;
constexpr const char* section = "SDM 3C 29.3.3.2, 28.2.1 (table 28-7)";

// Touches nothing but code, then writes.
GUEST(guest_write, "mov %al, (%rsi)\n")

} // namespace

// Every pair of rights in the entries of levels 2 and 1, under every access: what is allowed is allowed by
// both.
TEST_F(Ept, rights_of_two_levels_are_joined) {
    claim({.sdm = section}, [&] {
        const auto rights = valid_rights();
        Guest guest(host(), AccessList::plan(rights.size() * 512));
        AccessList list(guest);
        std::vector<std::pair<u32, u32>> of; // per case: level 2, level 1
        for (usize i = 0; i < rights.size(); ++i) {
            const u64 region = AccessList::subject + i * large_page;
            u64 page = region;
            for (const u32 low : rights) {
                for (const Access access : every_access) {
                    guest.nested_entry(page, 1, ept_leaf(page, 1, low));
                    list.add(access, page);
                    of.emplace_back(rights[i], low);
                    page += page_size;
                }
            }
            guest.nested_entry(region, 2, rights[i], abi::nested_entry_table);
        }
        Differences differences;
        const auto& cases = list.run();
        for (usize i = 0; i < cases.size(); ++i) {
            const auto [high, low] = of[i];
            compare(cases[i], violation(cases[i].access, high & low),
                    cases[i].owner + AccessList::offset(cases[i].access),
                    rights_text(high) + " over " + rights_text(low), differences);
        }
        combinations(cases.size());
    });
}

TEST_F(Ept, rights_of_a_2m_leaf) {
    claim({.sdm = section}, [&] {
        if (!offers(16)) {
            GTEST_SKIP() << "no EPT leaves of 2 MBytes (IA32_VMX_EPT_VPID_CAP bit 16)";
        }
        const auto rights = valid_rights();
        Guest guest(host(), AccessList::plan(rights.size() * 512));
        AccessList list(guest);
        std::vector<u32> of;
        for (usize i = 0; i < rights.size(); ++i) {
            const u64 region = AccessList::subject + i * large_page;
            u64 page = region;
            for (const Access access : every_access) {
                list.add(access, page);
                of.push_back(rights[i]);
                page += 37 * page_size;
            }
            guest.nested_entry(region, 2, ept_leaf(region, 2, rights[i]));
        }
        Differences differences;
        const auto& cases = list.run();
        for (usize i = 0; i < cases.size(); ++i) {
            compare(cases[i], violation(cases[i].access, of[i]),
                    cases[i].owner + AccessList::offset(cases[i].access),
                    rights_text(of[i]) + " in a 2M leaf", differences);
        }
        combinations(cases.size());
    });
}

// The entries of levels 4 and 3 are those of the guest's code as well. Without R its tables cannot be read;
// without X its first instruction is not fetched; without W it runs until it writes.
TEST_F(Ept, rights_of_the_upper_levels) {
    claim({.sdm = section}, [&] {
        u64 tried = 0;
        Guest guest(host(), {.arena_pages = 1});
        guest.state.gpr[abi::rsi] = client::layout::arena;
        guest.load(guest_write);
        for (const unsigned level : {4u, 3u}) {
            for (const u32 rights : valid_rights()) {
                SCOPED_TRACE(rights_text(rights) + " at level " + std::to_string(level));
                guest.nested_entry(client::layout::base, level, rights, abi::nested_entry_table);
                guest.invalidate(abi::Invalidation::ept_single);
                const auto r = guest.run({});
                ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
                ++tried;
                if (rights == may_all) {
                    expect_stopped(r);
                } else {
                    EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
                    const bool walk = (rights & may_read) == 0;
                    const bool writes = (rights & may_execute) != 0;
                    const auto due = walk     ? walk_violation(rights, false, false)
                                     : writes ? violation(Access::write, rights)
                                              : violation(Access::fetch, rights);
                    ASSERT_TRUE(due);
                    EXPECT_EQ(r.reply.exit.qualification & due->mask, due->value);
                    EXPECT_EQ(r.reply.exit.guest_physical, walk     ? client::layout::pml4
                                                           : writes ? client::layout::arena
                                                                    : client::layout::code);
                }
            }
            guest.nested_entry(client::layout::base, level, may_all, abi::nested_entry_table);
        }
        combinations(tried);
    });
}

} // namespace refhv::front
