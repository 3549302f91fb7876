// SPDX-License-Identifier: MIT
// What every benchmark takes for granted: that its time stamps mean what they say.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::Intercept;
using abi::Mode;
using abi::Reason;
using client::Guest;
using client::on;

namespace {

constexpr u64 rounds = 64;

SAMPLED_GUEST(guest_empty, "", "", "")
GUEST(guest_touch, "mov (%rsi), %eax\n add $0x1000, %rsi")
SAMPLED_GUEST(guest_cpuid, "", "xor %eax, %eax", "cpuid")

// A loop of empty pairs: all rounds done, time goes forward, and nothing but the end of the guest leaves it.
void check_empty_loop(client::GuestHost& host, Mode mode, Reason end) {
    client::Plan plan;
    plan.mode = mode;
    Guest guest(host, plan);
    guest.load(guest_empty.control);
    const auto r = guest.run({.rounds = rounds, .samples = rounds});
    ASSERT_EQ(r.outcome, abi::Outcome::exited);
    EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), end);
    u64 exits = 0;
    for (u64 count : r.reply.counts) {
        exits += count;
    }
    EXPECT_EQ(exits - r.count(Reason::external_interrupt), 1u) << "RDTSC, LFENCE or a move left the guest";
    EXPECT_EQ(r.exceptions.count, 0u) << "the first exception was vector " << r.exceptions.vector;
    u64 last = 0;
    u64 disturbed = 0;
    for (const auto& s : r.samples) {
        EXPECT_GT(s.start, last);
        EXPECT_GT(s.end, s.start);
        EXPECT_LE(s.es, 1u);
        last = s.end;
        disturbed += s.disturbed() ? 1 : 0;
    }
    EXPECT_LT(disturbed, rounds / 2) << "samples that an interrupt fell into";
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

} // namespace

class Stamps : public Claim {};
class ShadowedStamps : public Claim {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::vtlb; }
};
class NativeStamps : public Claim {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::native; }
};
class UserStamps : public Claim {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::user; }
};

class KvmStamps : public Claim {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::kvm; }
};

TEST_F(Stamps, take_no_exit) {
    claim({"SDM 3C 26.1.3", "APM 2 15.9"}, [&] { check_empty_loop(host(), Mode::nested, Reason::hlt); });
}

TEST_F(NativeStamps, are_ordered_and_complete) {
    claim({"SDM 3B 18.17", "APM 2 13.2.4"}, [&] { check_empty_loop(host(), Mode::native, Reason::int_n); });
}

TEST_F(UserStamps, are_ordered_and_complete) {
    claim({"SDM 3B 18.17", "APM 2 13.2.4"}, [&] { check_empty_loop(host(), Mode::user, Reason::exception); });
}

TEST_F(KvmStamps, are_ordered_and_complete) {
    claim({"SDM 3B 18.17", "APM 2 13.2.4"}, [&] { check_empty_loop(host(), Mode::kvm, Reason::hlt); });
}

// Without TSC offset and scaling the four stamps of an exit are of one clock, so they come in order.
TEST_F(Stamps, of_host_and_guest_are_of_one_clock) {
    claim({"SDM 3C 25.6.5", "APM 2 15.30.5"}, [&] {
        client::Plan plan;
        plan.intercepts = on(Intercept::cpuid);
        plan.policy.push_back({.reason = static_cast<u16>(Reason::cpuid),
                               .action = static_cast<u8>(abi::Action::advance),
                               .length = 2,
                               .event = 0});
        Guest guest(host(), plan);
        guest.load(guest_cpuid.operation);
        const auto r = guest.run({.rounds = rounds, .samples = rounds, .stamps = rounds + 1});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        ASSERT_EQ(r.count(Reason::cpuid), rounds);
        ASSERT_GE(r.stamps.size(), rounds);
        EXPECT_EQ(r.reply.handled, rounds);
        for (u64 i = 0; i < rounds; ++i) {
            EXPECT_GT(r.stamps[i].first, r.samples[i].start);
            EXPECT_GT(r.stamps[i].last, r.stamps[i].first);
            EXPECT_GT(r.samples[i].end, r.stamps[i].last);
        }
        EXPECT_GE(r.samples.front().start, r.reply.tsc_begin);
        EXPECT_LE(r.samples.back().end, r.reply.tsc_end);
    });
}

// About the core: faults that the shadow MMU answers take stamps too, and the policy's exits are no more.
TEST_F(ShadowedStamps, are_no_more_than_there_is_room_for) {
    claim({"SDM 3C 25.6.5", "APM 2 15.30.5"}, [&] {
        constexpr u32 room = 8;
        client::Plan plan;
        plan.mode = mode();
        plan.arena_pages = 4 * room;
        Guest guest(host(), plan);
        guest.state.gpr[abi::rsi] = client::layout::arena;
        guest.load(guest_touch, 4 * room);
        const auto r = guest.run({.repeats = 1, .stamps = room});
        EXPECT_EQ(r.outcome, abi::Outcome::repeats_done);
        EXPECT_EQ(r.reply.handled, 0u) << "there are faults only";
        EXPECT_LE(r.reply.stamp_count, room);
    });
}

} // namespace refhv::front
