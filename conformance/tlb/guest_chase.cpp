// SPDX-License-Identifier: MIT
// The guest that the sweep runs: its pages are of the size asked for, as the CPU's own accessed flags tell.
#include "refhv/front/guests/guest_chase.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

using abi::Mode;
using Leaf = abi::PageSize;
using client::Guest;

namespace {

constexpr u64 accessed = 1u << 5;
constexpr u32 lines = 1024; // of 4 KBytes: two pages of 2 MBytes

class TlbSweep : public Claim {
  protected:
    // Walks the chain once with every A flag clear beforehand; as many entries as pages touched must have it.
    static void check(Leaf page, Layout layout, u64 pages) {
        for (const Mode mode : {Mode::native, Mode::nested, Mode::shadow}) {
            if (mode == Mode::native && page == Leaf::g1) {
                continue; // would take 1 GByte in one piece
            }
            SCOPED_TRACE(client::name_of(mode));
            const GuestChase chase{.mode = mode, .page = page, .layout = layout, .lines = lines};
            client::Plan plan;
            plan_chase(chase, plan);
            Guest guest(host(), plan);
            build_chase(chase, guest, 0);
            guest.load(chase_code(layout).operation);
            const auto r = guest.run({.rounds = 1});
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            ASSERT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
            const auto [gpa, count] = entries_of(chase);
            u64 used = 0;
            for (const u64 entry : guest.read64(gpa, count)) {
                used += (entry & accessed) != 0 ? 1 : 0;
            }
            EXPECT_EQ(used, pages);
        }
    }
};

} // namespace

TEST_F(TlbSweep, pages_of_4k_are_walked_as_such) {
    claim({"SDM 3A 4.8", "APM 2 5.4.2"}, [] {
        check(Leaf::k4, Layout::spread, lines);
        check(Leaf::k4, Layout::inside, lines / inside_lines);
    });
}

TEST_F(TlbSweep, pages_of_2m_are_walked_as_such) {
    claim({"SDM 3A 4.8", "APM 2 5.4.2"}, [] { check(Leaf::m2, Layout::spread, lines / 512); });
}

TEST_F(TlbSweep, pages_of_1g_are_walked_as_such) {
    claim({"SDM 3A 4.8", "APM 2 5.4.2"}, [] {
        constexpr u32 edx = 3, page_1gb = 1u << 26;
        if ((cpuid(hello(), 0x8000'0001, 0, edx) & page_1gb) == 0) {
            GTEST_SKIP() << "no 1-GByte pages: CPUID.80000001H:EDX[26]";
        }
        check(Leaf::g1, Layout::spread, 1);
    });
}

} // namespace refhv::front
