// SPDX-License-Identifier: MIT
// What must forget a nested translation: a page that moved, a page that is gone, a right that was taken away.
#include "conformance/tlb/case.hpp"

namespace refhv::front {

using abi::Invalidation;
using abi::Reason;
using client::Guest;

namespace {

// CPUID keeps none of RAX, RBX, RCX, RDX.
GUEST(guest_read_twice, "mov (%rsi), %r8\n cpuid\n mov (%rsi), %r9\n")
GUEST(guest_write_twice, "mov %r8, (%rsi)\n cpuid\n mov %r9, (%rsi)\n")

GUEST(guest_read_then_write, "mov (%rsi), %r8\n cpuid\n mov %r8, (%rsi)\n")

enum class NestedChange : u8 {
    moved,
    gone,
    read_only,
};

constexpr u64 ept_accessed_dirty = 1u << 6; // of the EPT pointer
constexpr u32 ept_pointer = 0x201a;

} // namespace

class TlbNested : public TlbInvalidation {
  protected:
    static void forgets(Invalidation kind, std::optional<u64> tag = {}) {
        for (const NestedChange change : {NestedChange::moved, NestedChange::gone, NestedChange::read_only}) {
            SCOPED_TRACE(static_cast<int>(change));
            Guest g = guest();
            g.load(change == NestedChange::read_only ? guest_write_twice : guest_read_twice);
            ASSERT_EQ(begin(g).outcome, abi::Outcome::repeats_done);
            g.nested_entry(page, 1,
                           change == NestedChange::moved  ? leaf(other, 1, may_all)
                           : change == NestedChange::gone ? 0
                                                          : leaf(page, 1, may_read | may_execute));
            ASSERT_EQ(g.invalidate(kind, page, 1, tag).error, 0u);
            const auto r = go_on(g);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            if (change == NestedChange::moved) {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
                EXPECT_EQ(r.reply.state.gpr[abi::r8], old_value);
                EXPECT_EQ(r.reply.state.gpr[abi::r9], new_value) << "the page that stands there now";
            } else {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
                EXPECT_EQ(r.reply.exit.guest_physical, page);
            }
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
        combinations(3);
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

// What is not present is not cached: once there is an entry, it is used.
TEST_F(TlbNested, nothing_is_remembered_of_an_entry_that_was_not_present) {
    claim({"SDM 3C 29.4.2", "APM 2 15.25.5, 5.5"}, [&] {
        Guest g = guest();
        g.load(guest_read_twice);
        g.nested_entry(page, 1, 0);
        ASSERT_EQ(begin(g).count(Reason::nested_violation), 1u);
        g.nested_entry(page, 1, leaf(page, 1, may_all));
        ASSERT_EQ(go_on(g).outcome, abi::Outcome::repeats_done) << "to the CPUID";
        const auto r = go_on(g);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.reply.state.gpr[abi::r8], old_value);
    });
}

// A right that was added needs no invalidation: the violation that a stale translation may cause forgets it.
TEST_F(TlbNested, violation_forgets_the_translation_it_came_from) {
    claim({"SDM 3C 29.4.3.1", "APM 2 15.25.5, 5.5"}, [&] {
        client::Plan plan;
        plan.policy = {answer(Reason::nested_violation, abi::Action::resume)};
        Guest g = guest(plan);
        g.nested_entry(page, 1, leaf(page, 1, may_read));
        g.load(guest_read_then_write);
        ASSERT_EQ(begin(g).outcome, abi::Outcome::repeats_done);
        g.nested_entry(page, 1, leaf(page, 1, may_all));
        const auto r = g.run({.set_state = false});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << "a guest that faults for ever meets its deadline";
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_LE(r.count(Reason::nested_violation), 1u);
    });
}

// Once the dirty flag was cleared and the translation forgotten, the next write sets it again.
TEST_F(TlbNested, dirty_flag_is_set_anew) {
    claim({"SDM 3C 29.4.3.3, 29.3.5", "APM 2 5.4.2, 15.25.5"}, [&] {
        if (on_vmx() && (msr(hello(), 0x48c) >> 21 & 1) == 0) {
            GTEST_SKIP() << "no accessed and dirty flags for EPT (IA32_VMX_EPT_VPID_CAP bit 21)";
        }
        const u64 dirty = on_vmx() ? 1u << 9 : 1u << 6;
        Guest g = guest();
        g.load(guest_write_twice);
        if (on_vmx()) {
            g.field(ept_pointer, 8, g.read_field(ept_pointer, 8) | ept_accessed_dirty);
        }
        ASSERT_EQ(begin(g).outcome, abi::Outcome::repeats_done);
        EXPECT_EQ(g.nested_entry_at(page).entry & dirty, dirty) << "after the first write";
        g.nested_entry(page, 1, leaf(page, 1, may_all));
        g.invalidate(on_vmx() ? Invalidation::ept_single : Invalidation::flush_all);
        EXPECT_EQ(g.nested_entry_at(page).entry & dirty, 0u);
        EXPECT_EQ(static_cast<Reason>(go_on(g).reply.exit.reason), Reason::hlt);
        EXPECT_EQ(g.nested_entry_at(page).entry & dirty, dirty) << "after the second";
    });
}

// A VM that takes another's place may get its tables' address and its tag: nothing of the other may be left.
TEST_F(TlbNested, new_vm_has_no_translations_of_the_old_one) {
    claim({"refhv docs/core.md", "refhv docs/core.md"}, [&] {
        Guest old = guest();
        old.load(guest_read_twice);
        ASSERT_EQ(begin(old).outcome, abi::Outcome::repeats_done);
        Guest fresh = guest();
        fresh.load(guest_read_twice);
        fresh.nested_entry(page, 1, 0);
        EXPECT_EQ(begin(fresh).count(Reason::nested_violation), 1u);
    });
}

} // namespace refhv::front
