// SPDX-License-Identifier: MIT
// What must forget a nested translation: a page that moved, a page that is gone, a right that was taken away.
#include "conformance/tlb_case.hpp"

namespace refhv::front {

using abi::Invalidation;
using abi::Reason;
using client::Guest;

namespace {

// CPUID keeps none of RAX, RBX, RCX, RDX.
GUEST(guest_read_twice, "mov (%rsi), %r8\n cpuid\n mov (%rsi), %r9\n")
GUEST(guest_write_twice, "mov %r8, (%rsi)\n cpuid\n mov %r9, (%rsi)\n")

// What was changed in the nested entry of TlbInvalidation::page.
enum class Change {
    moved,
    gone,
    read_only,
};

} // namespace

class TlbNested : public TlbInvalidation {
  protected:
    static void forgets(Invalidation kind, std::optional<u64> tag = {}) {
        for (const Change change : {Change::moved, Change::gone, Change::read_only}) {
            SCOPED_TRACE(static_cast<int>(change));
            Guest g = guest();
            g.load(change == Change::read_only ? guest_write_twice : guest_read_twice);
            ASSERT_EQ(begin(g).outcome, abi::Outcome::repeats_done);
            g.nested_entry(page, 1,
                           change == Change::moved  ? leaf(other, 1, may_all)
                           : change == Change::gone ? 0
                                                    : leaf(page, 1, may_read | may_execute));
            ASSERT_EQ(g.invalidate(kind, page, 1, tag).error, 0u);
            const auto r = go_on(g);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            if (change == Change::moved) {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
                EXPECT_EQ(r.reply.state.gpr[abi::r8], old_value);
                EXPECT_EQ(r.reply.state.gpr[abi::r9], new_value) << "the page that stands there now";
            } else {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
                EXPECT_EQ(r.reply.exit.guest_physical, page);
            }
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
    }
};

TEST_F(TlbNested, invept_single_forgets_the_eptps_translations) {
    claim({.sdm = "SDM 3C 29.4.3.1"}, [&] { forgets(Invalidation::ept_single); });
}

TEST_F(TlbNested, invept_global_forgets_every_eptps_translations) {
    claim({.sdm = "SDM 3C 29.4.3.1"}, [&] { forgets(Invalidation::ept_global); });
}

TEST_F(TlbNested, fresh_asid_has_no_translations) {
    claim({.apm = "APM 2 15.16"}, [&] { forgets(Invalidation::asid_fresh); });
}

TEST_F(TlbNested, tlb_control_1_forgets_everything) {
    claim({.apm = "APM 2 15.16.1"}, [&] { forgets(Invalidation::flush_all); });
}

TEST_F(TlbNested, tlb_control_3_forgets_the_guests_translations) {
    claim({.apm = "APM 2 15.16.1"}, [&] { forgets(Invalidation::flush_asid); });
}

TEST_F(TlbNested, tlb_control_7_forgets_the_guests_translations_but_global_ones) {
    claim({.apm = "APM 2 15.16.1"}, [&] { forgets(Invalidation::flush_asid_keep_globals); });
}

} // namespace refhv::front
