// SPDX-License-Identifier: MIT
// Events that wait for a guest, from either source, on a vCPU that is told when it is open.
#include "refhv/core/pending_events.hpp"

#include "conformance/test/core/fake_hardware.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace refhv {
namespace {

using abi::Reason;

struct OpenVcpu {
    bool open = false, open_for_nmi = false, has_exit = true;
    bool window = false, nmi_window = false; // asked for
    std::vector<u32> delivered;

    bool takes_interrupt(u8) const { return open; }
    bool takes_nmi() const { return open_for_nmi; }
    bool deliver(Event event) {
        delivered.push_back(event.bits);
        open = open_for_nmi = false; // one event an entry
        return true;
    }
    bool deliver_nmi() { return deliver(nmi_event); }
    bool has_nmi_window() const { return has_exit; }
    void await_interrupt_window(bool wanted) { window = wanted; }
    void await_nmi_window(bool wanted) { nmi_window = wanted; }
};

constexpr u32 when_open = static_cast<u32>(abi::Delivery::when_open) << 12;
constexpr Event policys{when_open | 0x51}, policys_nmi{when_open | nmi_event.bits};

struct Waiting : testing::Test {
    OpenVcpu vcpu;
    PendingEvents waiting;

    void arrives(u8 vector) {
        fake::arrived = vector;
        EXPECT_TRUE(waiting.collect());
    }
    // The exit by a window; whether it was the policy's.
    bool opens(Reason reason) {
        EXPECT_TRUE(waiting.awaits_window(reason));
        vcpu.open = vcpu.open_for_nmi = true;
        const bool policys_event = waiting.deliver_at_window(vcpu, reason);
        waiting.offer(vcpu);
        return policys_event;
    }
};

TEST_F(Waiting, an_interrupt_goes_to_an_open_guest_at_once) {
    vcpu.open = true;
    arrives(0x40);
    EXPECT_TRUE(waiting.any());
    waiting.offer(vcpu);
    EXPECT_EQ(vcpu.delivered, std::vector<u32>{0x40});
    EXPECT_FALSE(vcpu.window);
    EXPECT_FALSE(waiting.any());
}

TEST_F(Waiting, interrupts_wait_for_their_window_highest_first) {
    arrives(0x40);
    arrives(0xe0);
    arrives(0x40); // one request bit a vector
    waiting.offer(vcpu);
    EXPECT_TRUE(vcpu.window);
    EXPECT_FALSE(waiting.awaits_window(Reason::nmi_window));
    EXPECT_FALSE(opens(Reason::interrupt_window));
    EXPECT_TRUE(vcpu.window) << "another waits";
    EXPECT_FALSE(opens(Reason::interrupt_window));
    EXPECT_EQ(vcpu.delivered, (std::vector<u32>{0xe0, 0x40}));
    EXPECT_FALSE(vcpu.window);
}

TEST_F(Waiting, a_policys_event_takes_the_exit_however_open_the_guest_is) {
    vcpu.open = true;
    ASSERT_TRUE(waiting.add(vcpu, policys));
    EXPECT_FALSE(waiting.any()) << "it wakes no guest that sleeps";
    waiting.offer(vcpu);
    EXPECT_TRUE(vcpu.delivered.empty());
    EXPECT_TRUE(vcpu.window);
    ASSERT_TRUE(waiting.add(vcpu, policys)); // however often it was asked for
    EXPECT_TRUE(opens(Reason::interrupt_window));
    EXPECT_EQ(vcpu.delivered, std::vector<u32>{policys.injection()});
    EXPECT_FALSE(vcpu.window);
    EXPECT_FALSE(waiting.awaits_window(Reason::interrupt_window)) << "the next such exit is the policy's";
}

TEST_F(Waiting, a_policys_nmi_waits_for_the_window_of_nmis_where_there_is_one) {
    vcpu.has_exit = false;
    EXPECT_FALSE(waiting.add(vcpu, policys_nmi));
    waiting.offer(vcpu);
    EXPECT_FALSE(vcpu.nmi_window);
    vcpu.has_exit = true;
    ASSERT_TRUE(waiting.add(vcpu, policys_nmi));
    waiting.offer(vcpu);
    EXPECT_TRUE(vcpu.nmi_window);
    EXPECT_FALSE(vcpu.window);
    EXPECT_TRUE(opens(Reason::nmi_window));
    EXPECT_EQ(vcpu.delivered, std::vector<u32>{policys_nmi.injection()});
    EXPECT_FALSE(vcpu.nmi_window);
}

TEST_F(Waiting, both_kinds_share_a_window_and_none_is_lost) {
    arrives(0xe0);
    ASSERT_TRUE(waiting.add(vcpu, policys));
    waiting.offer(vcpu);
    EXPECT_TRUE(opens(Reason::interrupt_window)) << "this exit was asked for first";
    EXPECT_EQ(vcpu.delivered, std::vector<u32>{policys.injection()});
    EXPECT_TRUE(vcpu.window);
    EXPECT_FALSE(opens(Reason::interrupt_window));
    EXPECT_EQ(vcpu.delivered.back(), 0xe0u);
    EXPECT_FALSE(vcpu.window);
}

TEST_F(Waiting, a_window_of_the_other_kind_is_no_moment_for_the_policys_event) {
    waiting.add_nmi();
    ASSERT_TRUE(waiting.add(vcpu, policys));
    waiting.offer(vcpu);
    EXPECT_TRUE(vcpu.window && vcpu.nmi_window);
    EXPECT_FALSE(opens(Reason::nmi_window));
    EXPECT_EQ(vcpu.delivered, std::vector<u32>{nmi_event.bits});
    EXPECT_TRUE(vcpu.window);
    EXPECT_FALSE(vcpu.nmi_window);
}

TEST_F(Waiting, the_end_of_a_run_closes_the_windows) {
    waiting.add_nmi();
    ASSERT_TRUE(waiting.add(vcpu, policys));
    waiting.offer(vcpu);
    waiting.end(vcpu);
    EXPECT_FALSE(vcpu.window || vcpu.nmi_window);
}

} // namespace
} // namespace refhv
