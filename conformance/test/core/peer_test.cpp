// SPDX-License-Identifier: MIT
// Runs with a peer, on a fake second CPU that is a thread.
#include "conformance/test/core/core_fixture.hpp"

namespace refhv {

namespace {

constexpr u64 mark = base + 0x1000, word = base + 0x2000;

abi::Run with_peer(abi::PeerAct act, u64 count) {
    abi::Run run{};
    run.max_peer_stamps = static_cast<u32>(count);
    run.peer = {.act = static_cast<u16>(act),
                .vector = 0x40,
                .notification = 0x41,
                .cpu = 1,
                .count = count,
                .mark = mark,
                .delay = 0,
                .address = word,
                .value = 7};
    return run;
}

} // namespace

class PeerTest : public CoreTest {
  protected:
    PeerTest() { EXPECT_EQ(create(vm()), Outcome::ok); }

    Outcome outcome_of(const abi::Run& run) { return send(Batch().add(Op::run, run)).at(0).outcome; }
    void store(u64 gpa, u64 value) {
        send(Batch().add(Op::mem_write, abi::MemRange{0, 0, gpa, 8},
                         {reinterpret_cast<const u8*>(&value), sizeof value}));
    }
    std::vector<u64> load(u64 gpa, u64 count) {
        return send(Batch().add(Op::mem_read, abi::MemRange{0, 0, gpa, 8 * count})).at(0).tail<u64>(0, count);
    }
};

TEST_F(PeerTest, what_cannot_be_is_refused_and_says_why) {
    const auto refused = [&](auto change, const char* why) {
        abi::Run run = with_peer(abi::PeerAct::post, 1);
        change(run);
        const client::Reply reply = send(Batch().add(Op::run, run)).at(0);
        EXPECT_EQ(reply.outcome, Outcome::bad_request) << why;
        EXPECT_NE(reply.text().find(why), std::string::npos) << reply.text();
    };
    refused([](abi::Run& r) { r.peer.act = 99; }, "unknown act");
    refused([](abi::Run& r) { r.peer.act = 0; }, "stamps of no peer");
    refused([](abi::Run& r) { r.peer.cpu = 0; }, "its CPU is the run's");
    refused([](abi::Run& r) { r.peer.cpu = 2; }, "none of that number");
    refused([](abi::Run& r) { r.peer.mark = base + 4; }, "the mark");
    refused([](abi::Run& r) { r.peer.mark = base - 8; }, "the mark");
    refused([](abi::Run& r) { r.peer.vector = 32; }, "vectors are 33 to 239");
    refused([](abi::Run& r) { r.peer.vector = 240; }, "vectors are 33 to 239");
    refused([](abi::Run& r) { r.peer.notification = 31; }, "notification vector");
    refused([](abi::Run& r) { r.peer.address = word + 8; }, "descriptor");
    refused([](abi::Run& r) { r.peer.act = static_cast<u16>(abi::PeerAct::write), r.peer.address = 1; },
            "8 aligned bytes");
    const auto no_sender = [](u64 slot) {
        return
            [slot](abi::Run& r) { r.peer.act = static_cast<u16>(abi::PeerAct::guest), r.peer.value = slot; };
    };
    refused(no_sender(0), "another VM"); // the run's own
    refused(no_sender(1), "another VM"); // there is none
    refused(no_sender(u64{1} << 32), "another VM");
    abi::Run elsewhere{};
    elsewhere.cpu = 2;
    EXPECT_EQ(outcome_of(elsewhere), Outcome::unsupported);
}

TEST_F(PeerTest, acts_as_far_as_the_mark_says_and_stops_with_the_run) {
    store(mark, 3);
    abi::Run run = with_peer(abi::PeerAct::write, 5);
    run.flags = 0;
    const client::Reply reply = [&] { // the fake guest exits at once: give the thread its time
        client::Reply last;
        for (unsigned attempt = 0; attempt < 1000; ++attempt) {
            last = send(Batch().add(Op::run, run)).at(0);
            if (last.as<abi::RunReply>().peer_acts == 3) {
                break;
            }
        }
        return last;
    }();
    const auto answer = reply.as<abi::RunReply>();
    EXPECT_EQ(answer.peer_acts, 3u);
    EXPECT_EQ(answer.peer_stamp_count, 3u);
    for (const abi::PeerStamp& s : reply.tail<abi::PeerStamp>(sizeof answer, answer.peer_stamp_count)) {
        EXPECT_LT(s.before, s.after);
    }
    EXPECT_EQ(load(word, 1).at(0), 9u) << "7, 8, 9";
}

// Its exits are answered three times; the fourth, HLT, stops it.
TEST_F(PeerTest, guest_of_another_vm_acts_until_an_exit_is_not_answered) {
    EXPECT_EQ(create(vm(1)), Outcome::ok);
    const abi::PolicyEntry entry{static_cast<u16>(abi::Reason::rdtsc), static_cast<u8>(abi::Action::advance),
                                 2, 0};
    store(mark, 5);
    abi::Run run = with_peer(abi::PeerAct::guest, 5);
    run.peer.value = 1;
    run.peer.address = 0;
    u64 acts = 0;
    for (unsigned attempt = 0; attempt < 1000 && acts != 3; ++attempt) { // as above
        abi::StateSet state{};
        state.vm = 1;
        state.state.gpr[abi::rax] = static_cast<u64>(abi::Reason::rdtsc);
        state.state.gpr[abi::rcx] = 3;
        Batch b;
        b.add(Op::state_set, state)
            .add(Op::policy, abi::PolicySet{1, 1}, {reinterpret_cast<const u8*>(&entry), sizeof entry})
            .add(Op::run, run);
        acts = send(b).at(2).as<abi::RunReply>().peer_acts;
        ASSERT_LE(acts, 3u);
    }
    EXPECT_EQ(acts, 3u);
}

TEST(IpiTarget, sends_fixed_interrupts_to_the_runs_cpu_and_no_others) {
    constexpr IpiTarget target{.cpu = 1}; // APIC ID 1
    constexpr u64 there = u64{1} << 32;
    const auto sends = [&](u64 icr) {
        const u64 before = fake::interrupts_sent;
        const bool said = target.send(icr);
        EXPECT_EQ(fake::interrupts_sent - before, said ? 1u : 0u) << icr;
        return said;
    };
    EXPECT_TRUE(sends(there | 0x51));
    EXPECT_TRUE(sends(there | 0x4051)) << "level assert";
    EXPECT_TRUE(sends(there | 33));
    EXPECT_TRUE(sends(there | 239));
    for (const u64 icr : {there | 32, there | 240, u64{0x51}, there | 0x451, there | 0x851, there | 0x8051,
                          there | 0x40051, there << 1 | 0x51}) {
        EXPECT_FALSE(sends(icr)) << std::hex << icr;
    }
    EXPECT_FALSE(IpiTarget{}.send(there | 0x51)) << "a guest that is no peer";
}

TEST(IpiTarget, posts_where_there_is_a_descriptor) {
    PostedInterruptDescriptor descriptor{};
    const IpiTarget target{.cpu = 1, .descriptor = &descriptor, .notification = 0x41};
    const u64 before = fake::interrupts_sent;
    EXPECT_TRUE(target.send(u64{1} << 32 | 0x51));
    EXPECT_TRUE(target.send(u64{1} << 32 | 0x52));
    EXPECT_EQ(fake::interrupts_sent - before, 1u) << "the notification, once";
    EXPECT_EQ(descriptor.requests[1], u64{3} << 0x11);
}

TEST_F(PeerTest, runs_on_another_cpu_too) {
    abi::Run run{};
    run.cpu = 1;
    EXPECT_EQ(outcome_of(run), Outcome::exited);
}

// A VM that cannot arrive is not asked to leave where it never was.
TEST_F(PeerTest, comes_back_from_a_cpu_that_cannot_run_it) {
    using fake::Vcpu;
    EXPECT_EQ(create(vm(1)), Outcome::ok);
    const auto moves_of = [&](const abi::Run& run) {
        Vcpu::moves.clear();
        Vcpu::unreachable = 1;
        const client::Reply reply = send(Batch().add(Op::run, run)).at(0);
        Vcpu::unreachable = Vcpu::none;
        EXPECT_EQ(reply.outcome, Outcome::unsupported);
        EXPECT_EQ(reply.text(), "no VMX there");
        return Vcpu::moves;
    };
    abi::Run elsewhere{};
    elsewhere.cpu = 1;
    EXPECT_EQ(moves_of(elsewhere), (std::vector<u32>{Vcpu::none, 1, 0}));
    abi::Run guest = with_peer(abi::PeerAct::guest, 1);
    guest.peer.value = 1;
    guest.peer.address = 0;
    EXPECT_EQ(moves_of(guest), (std::vector<u32>{Vcpu::none, 1, 0}))
        << "the sender's; the run's own never left";
}

// The fake brings an interrupt when somebody waits for one.
TEST_F(PeerTest, a_guest_that_halts_sleeps_until_an_interrupt_is_there) {
    abi::Run what{};
    what.repeats = 5;
    const auto reply = run(abi::Reason::hlt, 0, what, abi::Action::emulate);
    EXPECT_EQ(reply.outcome, Outcome::repeats_done);
    EXPECT_EQ(reply.as<abi::RunReply>().handled, 5u);
}

TEST(PostedInterrupt, sets_on_and_notifies_only_the_first_time) {
    PostedInterruptDescriptor d{};
    EXPECT_TRUE(d.post(0x40));
    EXPECT_EQ(d.requests[1], 1u);
    EXPECT_EQ(d.control, 1u);
    EXPECT_FALSE(d.post(0xef)) << "ON: somebody has been told";
    EXPECT_EQ(d.requests[3], u64{1} << 47);
    EXPECT_EQ(d.control, 1u);
}

TEST(PostedInterrupt, sn_keeps_on_clear_and_sends_no_notification) {
    PostedInterruptDescriptor d{};
    d.control = PostedInterruptDescriptor::suppress;
    EXPECT_FALSE(d.post(33));
    EXPECT_EQ(d.requests[0], u64{1} << 33);
    EXPECT_EQ(d.control, PostedInterruptDescriptor::suppress);
}

} // namespace refhv
