// SPDX-License-Identifier: MIT
// StreamTarget against machines that fail in the middle: each is a miss in one line, and the next call finds
// a new one.
#include "conformance/test/unit/stream_target_harness.hpp"

#include <cstring>

namespace refhv::client {
namespace {

TEST(StreamTarget, miss_of_a_hang) {
    EXPECT_TRUE(says(miss_of_call([](Peer& peer) { peer.hang(); }, soon),
                     "fake: no answer to request 1 within 0.4 s; killed"));
}

TEST(StreamTarget, miss_of_a_death_names_the_signal) {
    EXPECT_EQ(miss_of_call([](Peer& peer) {
                  (void)peer.take();
                  kill(getpid(), SIGKILL);
              }),
              "fake: ended during request 1; killed by signal 9 (Killed)");
}

TEST(StreamTarget, miss_of_a_death_while_idle) {
    EXPECT_EQ(miss_of_call([](Peer&) {}), "fake: ended during request 1; exit status 0");
}

TEST(StreamTarget, miss_of_a_reply_cut_by_death) {
    EXPECT_EQ(miss_of_call([](Peer& peer) {
                  std::vector<u8> frame = frame_bytes(peer.take().header.sequence, std::vector<u8>(200));
                  frame.resize(100);
                  peer.say(frame);
              }).substr(0, 29),
              "fake: ended during request 1;");
}

TEST(StreamTarget, miss_of_a_reply_cut_by_a_hang) {
    EXPECT_TRUE(says(miss_of_call(
                         [](Peer& peer) {
                             std::vector<u8> frame =
                                 frame_bytes(peer.take().header.sequence, std::vector<u8>(200));
                             frame.resize(100);
                             peer.say(frame);
                             peer.hang();
                         },
                         soon),
                     "no answer to request 1 within 0.4 s"));
}

TEST(StreamTarget, miss_of_a_damaged_reply_comes_before_patience_ends) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(says(miss_of_call([](Peer& peer) {
                         std::vector<u8> frame = frame_bytes(peer.take().header.sequence, request());
                         frame.back() ^= 1;
                         peer.say(frame);
                         peer.hang();
                     }),
                     "fake: a frame with a wrong checksum during request 1; killed"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, plenty / 2);
}

TEST(StreamTarget, a_damaged_frame_before_a_good_one_does_no_harm) {
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        for (;;) {
            const Peer::Request r = peer.take();
            std::vector<u8> frame = frame_bytes(r.header.sequence, r.payload);
            frame.back() ^= 1;
            peer.say(frame);
            peer.send(r.header.sequence, r.payload);
        }
    });
    EXPECT_EQ(t.call(request(), plenty), request());
    EXPECT_EQ(t.call(request(), plenty), request());
}

TEST(StreamTarget, miss_of_a_restarted_core) {
    EXPECT_TRUE(says(miss_of_call([](Peer& peer) {
                         (void)peer.take();
                         peer.say("BIOS again\n");
                         peer.hello();
                         peer.hang();
                     }),
                     "fake: its core restarted by itself during request 1; killed"));
}

TEST(StreamTarget, miss_of_a_restart_in_the_middle_of_a_reply) {
    // The hello is swallowed by the frame that stopped, and found when patience ends.
    EXPECT_TRUE(says(miss_of_call(
                         [](Peer& peer) {
                             std::vector<u8> frame =
                                 frame_bytes(peer.take().header.sequence, std::vector<u8>(10'000));
                             frame.resize(100);
                             peer.say(frame);
                             peer.hello();
                             peer.hang();
                         },
                         soon),
                     "its core restarted by itself"));
}

TEST(StreamTarget, miss_of_a_crash_names_what_a_person_needs) {
    abi::CrashReply crash{};
    crash.vector = 13;
    crash.error = 0x18;
    crash.rip = 0x10'4242;
    crash.cr2 = 0xdead;
    std::memset(crash.where, 'w', sizeof crash.where); // without an end
    std::memcpy(crash.where, "run\0", 4);
    const std::vector<u8> payload = reply_bytes(abi::Op::crash, abi::Outcome::crashed,
                                                {reinterpret_cast<const u8*>(&crash), sizeof crash});
    for (const bool asked : {true, false}) {
        EXPECT_TRUE(
            says(miss_of_call([&](Peer& peer) {
                     const u32 sequence = peer.take().header.sequence;
                     peer.send(asked ? sequence : 0, payload);
                     peer.hang();
                 }),
                 "fake: the core crashed: exception vector 13, error code 0x18, RIP 0x104242, CR2 0xdead, "
                 "in 'run', during request 1"));
    }
    EXPECT_TRUE(says(miss_of_hello([&](Peer& peer) { peer.send(0, payload); }), "before its hello"));
}

TEST(StreamTarget, miss_of_an_answer_to_something_else) {
    const auto misses = [](u32 sequence, FrameKind kind, const std::vector<u8>& payload) {
        return miss_of_call([=](Peer& peer) {
            (void)peer.take();
            peer.send(sequence, payload, abi::version, kind);
            peer.hang();
        });
    };
    EXPECT_TRUE(
        says(misses(2, FrameKind::reply, request()), "an answer to request 2 where one to request 1"));
    EXPECT_TRUE(says(misses(1, FrameKind::request, request()), "a frame of kind 1"));
    EXPECT_TRUE(
        says(misses(1, FrameKind::reply, {1, 2, 3}), "a malformed reply during request 1: reply 0 ends"));
}

} // namespace
} // namespace refhv::client
