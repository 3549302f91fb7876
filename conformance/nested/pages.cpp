// SPDX-License-Identifier: MIT
// Guests under nested tables of every leaf size, and with translations that are tagged and that are not.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::PageSize;
using abi::Reason;
using client::Guest;

namespace {

// Two pages 4 MBytes apart, so that two leaves of 2 MBytes are in play.
GUEST(guest_touch, "mov (%rsi), %al\n mov (%rdi), %al\n mov %al, 8(%rsi)\n")

} // namespace

class NestedPages : public Exit {
  protected:
    // Takes every right from one leaf, lets the guest touch it and another, with map-and-retry as the policy.
    static void check(PageSize size) {
        client::Plan plan;
        plan.nested_page_size = size;
        plan.arena_pages = 1024;
        plan.policy.push_back({.reason = static_cast<u16>(Reason::nested_violation),
                               .action = static_cast<u8>(abi::Action::map_and_retry),
                               .length = 0,
                               .event = 0});
        Guest guest(host(), plan);
        const u64 leaf_pages = u64{1} << (9 * static_cast<unsigned>(size));
        const u64 target = client::layout::arena + 512 * page_size;
        guest.state.gpr[abi::rsi] = target;
        guest.state.gpr[abi::rdi] = client::layout::arena;
        guest.load(guest_touch);
        try {
            (void)guest.settle();
        } catch (const client::Refused& refused) {
            if (refused.outcome == abi::Outcome::unsupported || refused.outcome == abi::Outcome::exhausted) {
                GTEST_SKIP() << refused.what();
            }
            throw;
        }
        u64 faults = 0;
        if (size != PageSize::g1) { // the guest's own code lies in the only leaf of 1 GByte
            guest.protect(target, leaf_pages, 0);
            faults = 1;
        }
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.count(Reason::nested_violation), faults)
            << "one for the whole leaf, whatever is touched in it";
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    }
};

TEST_F(NestedPages, guest_runs_under_4k_leaves) {
    claim({"SDM 3C 29.3.2", "APM 2 15.25.5"}, [&] { check(PageSize::k4); });
}

TEST_F(NestedPages, guest_runs_under_2m_leaves) {
    claim({"SDM 3C 29.3.2", "APM 2 15.25.5"}, [&] { check(PageSize::m2); });
}

TEST_F(NestedPages, guest_runs_under_1g_leaves) {
    claim({"SDM 3C 29.3.2", "APM 2 15.25.5"}, [&] { check(PageSize::g1); });
}

// SVM always has ASIDs; VPIDs are bit 5 of the secondary controls, allowed in bit 37 of
// IA32_VMX_PROCBASED_CTLS2.
static bool offers_tags() {
    auto& session = Session::get();
    return session.vendor() == abi::Vendor::svm || (msr(session.hello(), 0x48b) >> 37 & 1) != 0;
}

GUEST(guest_cpuid_twice, "cpuid\n cpuid")
TEST_F(NestedPages, guest_runs_with_and_without_tags) {
    claim({"SDM 3C 29.1", "APM 2 15.16"}, [&] {
        for (const abi::TagPolicy tags : {abi::TagPolicy::tagged, abi::TagPolicy::flushing}) {
            client::Plan plan;
            plan.tag_policy = tags;
            plan.intercepts = client::on(abi::Intercept::cpuid);
            plan.policy.push_back({.reason = static_cast<u16>(Reason::cpuid),
                                   .action = static_cast<u8>(abi::Action::advance),
                                   .length = 2,
                                   .event = 0});
            Guest guest(host(), plan);
            guest.load(guest_cpuid_twice);
            // VMX: VPID is 0 where translations are not to be tagged. SVM: TLB_CONTROL flushes at every
            // VMRUN.
            const auto r = guest.run({});
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(r.count(Reason::cpuid), 2u);
            const bool tagged = tags == abi::TagPolicy::tagged && offers_tags();
            if (on_vmx()) {
                constexpr u32 vpid = 0x0000;
                EXPECT_EQ(guest.read_field(vpid, 2) != 0, tagged) << "the VPID field";
            } else {
                constexpr u32 tlb_control = 0x5c;
                EXPECT_EQ(guest.read_field(tlb_control, 1) != 0, !tagged) << "TLB_CONTROL";
            }
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
    });
}

} // namespace refhv::front
