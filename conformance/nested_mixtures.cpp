// SPDX-License-Identifier: MIT
// Nested tables with leaves of several sizes, and pages that are not where they seem to be.
#include "conformance/nested_case.hpp"

namespace refhv::front {

using abi::PageSize;
using abi::Reason;
using client::Guest;

namespace {

// Reads eight bytes from each of RDI pages that begin at RSI, adds them up in RBX.
GUEST(guest_sum, "xor %ebx, %ebx\n 1: add (%rsi), %rbx\n add $4096, %rsi\n dec %rdi\n jnz 1b\n")

constexpr u64 arena = client::layout::arena;
constexpr u64 large_page = 512 * page_size;

} // namespace

class NestedMixture : public NestedClaim {
  protected:
    // A guest that reads `pages` pages of the arena; page i holds i + 1.
    static Guest reader(PageSize size, u64 pages) {
        client::Plan plan;
        plan.nested_page_size = size;
        plan.arena_pages = 1024;
        plan.policy = {answer(Reason::nested_violation, abi::Action::map_and_retry)};
        Guest guest(host(), plan);
        for (u64 i = 0; i < pages; ++i) {
            const u64 value = i + 1;
            guest.write(arena + i * page_size, {reinterpret_cast<const u8*>(&value), sizeof value});
        }
        guest.state.gpr[abi::rsi] = arena;
        guest.state.gpr[abi::rdi] = pages;
        guest.load(guest_sum);
        return guest;
    }
};

TEST_F(NestedMixture, small_leaf_inside_a_large_one) {
    claim({"SDM 3C 29.3.2", "APM 2 15.25.5"}, [&] {
        constexpr u64 pages = 64;
        Guest guest = reader(PageSize::m2, pages);
        // Page 3 is where page 7 is; the rest of the 2 MBytes stays.
        guest.nested_entry(arena + 3 * page_size, 1, leaf(arena + 7 * page_size, 1, may_all));
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::nested_violation), 0u);
        EXPECT_EQ(r.reply.state.gpr[abi::rbx], pages * (pages + 1) / 2 + 4);
        EXPECT_EQ(guest.nested_entry_at(arena + 3 * page_size).level, 1u);
        EXPECT_EQ(guest.nested_entry_at(arena + large_page).level, 2u) << "the next large page is untouched";
    });
}

TEST_F(NestedMixture, hole_in_a_large_leaf_faults_alone) {
    claim({"SDM 3C 29.3.3.2", "APM 2 15.25.6"}, [&] {
        constexpr u64 pages = 64;
        Guest guest = reader(PageSize::m2, pages);
        for (u64 i = 1; i < pages; i += 2) {
            guest.nested_entry(arena + i * page_size, 1, 0);
        }
        const auto r = guest.run({.exits = pages});
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::nested_violation), pages / 2);
        EXPECT_EQ(r.reply.state.gpr[abi::rbx], pages * (pages + 1) / 2);
        ASSERT_EQ(r.exits.size(), pages / 2 + 1) << "one a hole, and the stop";
        for (u64 i = 0; i < pages / 2; ++i) {
            EXPECT_EQ(r.exits[i].guest_physical, arena + (2 * i + 1) * page_size);
        }
    });
}

TEST_F(NestedMixture, large_leaf_takes_the_place_of_a_table) {
    claim({"SDM 3C 29.3.2", "APM 2 15.25.5"}, [&] {
        constexpr u64 pages = 512;
        Guest guest = reader(PageSize::k4, pages);
        guest.nested_entry(arena, 2, leaf(arena, 2, may_all));
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::nested_violation), 0u);
        EXPECT_EQ(r.reply.state.gpr[abi::rbx], pages * (pages + 1) / 2);
        EXPECT_EQ(guest.nested_entry_at(arena).level, 2u);
    });
}

} // namespace refhv::front
