// SPDX-License-Identifier: MIT
// Nested tables with leaves of several sizes, and pages that are not where they seem to be.
#include "conformance/nested/case.hpp"

namespace refhv::front {

using abi::PageSize;
using abi::Reason;
using client::Guest;

namespace {

// Reads eight bytes from each of RDI pages that begin at RSI, adds them up in RBX.
GUEST(guest_sum, "xor %ebx, %ebx\n 1: add (%rsi), %rbx\n add $4096, %rsi\n dec %rdi\n jnz 1b\n")

// Folds what each of RDI pages from RSI on holds into RBX, order and all.
GUEST(guest_fold,
      "xor %ebx, %ebx\n 1: imul $31, %rbx\n add (%rsi), %rbx\n add $4096, %rsi\n dec %rdi\n jnz 1b\n")
// An exception whose gate the host has taken away.
GUEST(guest_ud, "ud2")
// Four bytes on each side of a page boundary.
GUEST(guest_cross, "mov (%rsi), %rbx\n mov %rbx, (%rsi)\n")

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
        constexpr u64 pages = 64;
        Guest guest = reader(PageSize::k4, pages);
        guest.nested_entry(arena, 2, leaf(arena, 2, may_all));
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::nested_violation), 0u);
        EXPECT_EQ(r.reply.state.gpr[abi::rbx], pages * (pages + 1) / 2);
        EXPECT_EQ(guest.nested_entry_at(arena).level, 2u);
    });
}

// What the guest's page and the nested page make together, whatever their sizes are: the smaller of the two,
// at the place where both lead.
TEST_F(NestedMixture, guest_pages_over_nested_pages) {
    claim({"SDM 3C 29.3.2, 29.4.1", "APM 2 15.25.5"}, [&] {
        constexpr u64 pages = 64;
        enum class Nested {
            small,
            large,
            mixed
        };
        u64 tried = 0;
        for (const PageSize guest_page : {PageSize::k4, PageSize::m2}) {
            for (const Nested nested : {Nested::small, Nested::large, Nested::mixed}) {
                SCOPED_TRACE("guest " + std::to_string(static_cast<int>(guest_page)) + ", nested " +
                             std::to_string(static_cast<int>(nested)));
                Guest guest = reader(nested == Nested::small ? PageSize::k4 : PageSize::m2, pages);
                constexpr u64 swapped_a = 17, swapped_b = 40;
                if (nested == Nested::mixed) {
                    guest.nested_entry(arena + swapped_a * page_size, 1,
                                       leaf(arena + swapped_b * page_size, 1, may_all));
                    guest.nested_entry(arena + swapped_b * page_size, 1,
                                       leaf(arena + swapped_a * page_size, 1, may_all));
                }
                if (guest_page == PageSize::m2) {
                    constexpr u64 large_entry = 0xe7; // P, W, U, A, D, PS
                    const u64 entry = arena | large_entry;
                    guest.write(client::layout::page_directory + 8 * ((arena - client::layout::base) >> 21),
                                {reinterpret_cast<const u8*>(&entry), sizeof entry});
                }
                guest.load(guest_fold);
                u64 due = 0;
                for (u64 i = 0; i < pages; ++i) {
                    const bool swap = nested == Nested::mixed && (i == swapped_a || i == swapped_b);
                    due = due * 31 + (swap ? swapped_a + swapped_b - i : i) + 1;
                }
                const auto r = guest.run({});
                expect_stopped(r);
                EXPECT_EQ(r.count(Reason::nested_violation), 0u);
                EXPECT_EQ(r.reply.state.gpr[abi::rbx], due);
                ++tried;
            }
        }
        combinations(tried);
    });
}

// Both pages of an access are translated, and the one that is refused is named.
TEST_F(NestedMixture, access_across_two_pages) {
    claim({"SDM 3C 29.3.3.2", "APM 2 15.25.6"}, [&] {
        u64 tried = 0;
        for (const u64 refused : {arena, arena + page_size}) {
            Guest guest = reader(PageSize::k4, 2);
            guest.state.gpr[abi::rsi] = arena + page_size - 4;
            guest.load(guest_cross);
            guest.nested_entry(refused, 1, 0);
            const auto r = guest.run({.exits = 4});
            expect_stopped(r);
            ASSERT_EQ(r.exits.size(), 2u) << "one violation, and the stop";
            EXPECT_EQ(r.exits[0].guest_physical & ~(page_size - 1), refused);
            EXPECT_EQ(r.reply.state.gpr[abi::rbx], u64{2} << 32) << "the half of either page";
            ++tried;
        }
        combinations(tried);
    });
}

// The delivery of an exception may need a page too. The exit says what was being delivered; delivered anew,
// it arrives.
TEST_F(NestedMixture, violation_while_an_exception_is_delivered) {
    claim({"SDM 3C 28.2.4, 29.3.3.2", "APM 2 15.7.2, 15.25.6"}, [&] {
        constexpr u64 vector_ud = 6, valid_hardware_exception = 0x8000'0300;
        Guest guest = reader(PageSize::k4, 1);
        guest.load(guest_ud);
        guest.nested_entry(client::layout::idt, 1, 0);
        const auto r = guest.run({.exits = 4, .handler_advance = guest_ud.size()});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        ASSERT_EQ(r.exits.size(), 2u) << "one violation, and the stop";
        EXPECT_EQ(r.exits[0].guest_physical & ~u64{15}, client::layout::idt + 16 * vector_ud);
        EXPECT_EQ(r.exits[0].vectoring & 0xffff'ffff, valid_hardware_exception | vector_ud);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, vector_ud);
    });
}

} // namespace refhv::front
