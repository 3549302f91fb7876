// SPDX-License-Identifier: MIT
// A request whose client no longer wants to wait (refhv/client/interruption.hpp).
#include "conformance/test/unit/stream_target_harness.hpp"

#include "refhv/client/interruption.hpp"

#include <unistd.h>

namespace refhv::client {
namespace {

constexpr int input_fd = 4; // of a peer: fake_peer.cpp

// Says yes at its first so many questions.
Interruption::Asked times(int wishes) {
    return [wishes]() mutable { return wishes-- > 0; };
}

std::string interrupted_call(StreamTarget& t, int wishes) {
    const Interruption interruption(times(wishes));
    return what_of<Interrupted>([&] { t.call(request(), plenty); });
}

TEST(Interruption, a_machine_is_asked_by_a_byte_and_stays) {
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        const Peer::Request first = peer.take();
        u8 byte = 1;
        while (read(input_fd, &byte, 1) != 1) {
        }
        peer.send(first.header.sequence, byte == 0 ? first.payload : std::vector<u8>{});
        peer.echo();
    });
    t.hello();
    EXPECT_TRUE(says(interrupted_call(t, 1), "the run was stopped; the target and its VMs are there still"));
    EXPECT_EQ(t.call(request(), plenty), request());
    EXPECT_EQ(t.generation(), 1u);
}

TEST(Interruption, who_asks_twice_does_not_wait) {
    StreamTarget t = failing([](Peer& peer) {
        peer.hello();
        static_cast<void>(peer.take());
        peer.hang();
    });
    t.hello();
    EXPECT_TRUE(says(interrupted_call(t, 2), "interrupted during request 1; it was ended, its VMs are gone"));
    EXPECT_EQ(t.call(request(), plenty), request());
    EXPECT_EQ(t.generation(), 2u);
}

TEST(Interruption, a_machine_that_comes_up_is_ended_at_once) {
    StreamTarget t = failing([](Peer& peer) { peer.hang(); });
    const Interruption interruption(times(1));
    EXPECT_TRUE(says(what_of<Interrupted>([&] { t.hello(); }), "interrupted before its hello"));
    EXPECT_EQ(t.pid(), 0);
    t.hello();
}

TEST(Interruption, is_of_its_thread_and_its_scope) {
    EXPECT_FALSE(Interruption::possible());
    {
        const Interruption outer(times(0));
        {
            const Interruption inner(times(1));
            EXPECT_TRUE(Interruption::asked());
            EXPECT_FALSE(Interruption::asked()) << "once for each wish";
        }
        EXPECT_TRUE(Interruption::possible());
        EXPECT_FALSE(Interruption::asked());
    }
    EXPECT_FALSE(Interruption::possible());
}

} // namespace
} // namespace refhv::client
