// SPDX-License-Identifier: MIT
// StreamTarget (refhv/client/stream_target.hpp) against machines that answer, and that fail before their
// hello.
#include "conformance/test/unit/stream_target_harness.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>

namespace refhv::client {
namespace {

const std::string own_version = std::to_string(abi::version);

TEST(StreamTarget, says_hello_once) {
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        peer.echo();
    });
    EXPECT_EQ(t.generation(), 0u);
    const HelloInfo& hello = t.hello();
    EXPECT_EQ(hello.fixed.cpuid_count, 2u);
    ASSERT_EQ(hello.cpuid.size(), 2u);
    EXPECT_EQ(hello.cpuid[1].eax, 101u);
    EXPECT_EQ(std::strlen(hello.fixed.note), sizeof hello.fixed.note - 1);
    EXPECT_EQ(&t.hello(), &hello);
    EXPECT_EQ(t.generation(), 1u);
}

TEST(StreamTarget, calls_come_back_through_noise) {
    StreamTarget t = target([](Peer& peer) {
        peer.say("BIOS 1.0\r\nLoading RFHv...\r\n");
        peer.hello();
        for (;;) {
            const Peer::Request r = peer.take();
            peer.say("(0) [0xfff0] RF");
            peer.send(r.header.sequence, r.payload);
            peer.say("\r\n");
        }
    });
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(t.call(request(), plenty), request());
    }
    EXPECT_EQ(t.generation(), 1u);
}

TEST(StreamTarget, requests_are_numbered_from_1) {
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        for (u32 expected = 1;; ++expected) {
            const Peer::Request r = peer.take();
            const bool right = r.header.sequence == expected && r.header.version == abi::version &&
                               r.header.kind == static_cast<u16>(FrameKind::request);
            peer.send(right ? expected : 999, r.payload);
        }
    });
    for (int i = 0; i < 3; ++i) {
        t.call(request(), plenty);
    }
}

TEST(StreamTarget, largest_payloads_pass_both_ways) {
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        peer.echo();
    });
    const std::vector<u8> body(abi::max_frame_payload - sizeof(abi::ReplyHeader), 0x52);
    const std::vector<u8> large = reply_bytes(abi::Op::mem_read, abi::Outcome::ok, body);
    ASSERT_EQ(large.size(), abi::max_frame_payload);
    EXPECT_EQ(t.call(large, plenty), large);
    const std::vector<u8> too_large(abi::max_frame_payload + 1);
    EXPECT_THROW(t.call(too_large, plenty), std::invalid_argument);
    EXPECT_EQ(t.generation(), 1u); // the caller's error, not the machine's
}

// A machine that takes packed requests: the bootable image. Its hello is not packed.
void say_hello_as_image(Peer& peer) {
    std::vector<u8> hello = hello_bytes();
    hello[sizeof(abi::ReplyHeader) + offsetof(abi::HelloReply, platform)] =
        static_cast<u8>(abi::Platform::image);
    peer.send(0, hello);
}

TEST(StreamTarget, an_image_is_spoken_to_in_packed_frames) {
    StreamTarget t = target([](Peer& peer) {
        say_hello_as_image(peer);
        std::vector<u8> room(abi::max_frame_payload);
        for (;;) {
            const Peer::Request r = peer.take();
            const bool packed = r.header.kind == static_cast<u16>(FrameKind::packed_request);
            const auto payload = unpack_payload(r.payload, room);
            if (packed && payload && std::ranges::equal(*payload, request())) {
                peer.send(r.header.sequence, r.payload, abi::version, FrameKind::packed_reply);
            } else if (!packed) { // random bytes become no shorter
                peer.send(r.header.sequence, r.payload);
            }
        }
    });
    EXPECT_EQ(t.call(request(), plenty), request());
    std::vector<u8> body(abi::max_frame_payload - sizeof(abi::ReplyHeader));
    std::mt19937 random(1);
    std::ranges::generate(body, [&] { return static_cast<u8>(random()); });
    const std::vector<u8> large = reply_bytes(abi::Op::mem_read, abi::Outcome::ok, body);
    EXPECT_EQ(t.call(large, plenty), large);
    EXPECT_EQ(t.call(request(), plenty), request()) << "packed again behind one that was not";
}

TEST(StreamTarget, a_packed_reply_that_is_damaged_is_a_miss) {
    StreamTarget t = target([](Peer& peer) {
        say_hello_as_image(peer);
        const Peer::Request r = peer.take();
        std::vector<u8> cut = r.payload;
        cut.pop_back();
        peer.send(r.header.sequence, cut, abi::version, FrameKind::packed_reply);
        peer.hang();
    });
    try {
        t.call(request(), plenty);
        FAIL() << "no miss";
    } catch (const TargetMiss& missed) {
        EXPECT_TRUE(says(missed.what(), "a packed reply that is damaged, during request 1"));
    }
}

TEST(StreamTarget, stop_ends_and_the_next_call_starts_again) {
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        peer.echo();
    });
    t.hello();
    const pid_t pid = t.pid();
    t.stop();
    t.stop();
    EXPECT_NE(kill(pid, 0), 0);
    t.call(request(), plenty);
    EXPECT_EQ(t.generation(), 2u);
}

TEST(StreamTarget, miss_without_hello) {
    const auto begin = std::chrono::steady_clock::now();
    {
        const std::string what = miss_of_hello([](Peer& peer) { peer.hang(); }, soon);
        EXPECT_TRUE(says(what, "fake: no hello within 0.4 s; killed (process "));
        EXPECT_FALSE(says(what, "said"));
    }
    EXPECT_GE(std::chrono::steady_clock::now() - begin, soon);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, soon + 5s);
}

TEST(StreamTarget, miss_names_what_was_last_said) {
    EXPECT_TRUE(says(miss_of_hello(
                         [](Peer& peer) {
                             peer.say("\x1b[2JNo bootable\r\n\r\n device.\a\n");
                             peer.hang();
                         },
                         soon),
                     "it last said '[2JNo bootable device.'"));
}

TEST(StreamTarget, miss_with_the_log_where_there_is_one) {
    StreamTarget t{{"fake", "image", "vmx", true, "ticks", "a fake"}, plenty, [] {
                       Machine machine = launch_peer([](Peer& peer) { peer.say("noise"); });
                       machine.last_words = [] { return std::string("[CPU0] panic"); };
                       return machine;
                   }};
    EXPECT_EQ(what_of([&] { t.hello(); }),
              "fake: ended before its hello; exit status 0; its log: [CPU0] panic");
}

TEST(StreamTarget, miss_when_it_ends_before_hello) {
    EXPECT_EQ(miss_of_hello([](Peer&) { _exit(3); }), "fake: ended before its hello; exit status 3");
}

TEST(StreamTarget, miss_of_rubbish_comes_before_patience_ends) {
    {
        const std::string what = miss_of_hello([](Peer& peer) {
            for (;;) {
                peer.say("rubbish ");
            }
        });
        EXPECT_TRUE(says(what, "fake: more than 65536 bytes of rubbish before its hello; killed"));
        EXPECT_TRUE(says(what, "it last said '"));
    }
}

TEST(StreamTarget, other_version_is_refused_in_words) {
    constexpr u16 other = abi::version + 1;
    StreamTarget t = target([](Peer& peer) {
        peer.send(0, hello_bytes(other), other);
        peer.hang();
    });
    {
        const std::string what = what_of<TargetUnusable>([&] { t.hello(); });
        EXPECT_TRUE(says(what, "fake: its core speaks version " + std::to_string(other) +
                                   " of the ABI, this program version " + own_version));
        EXPECT_TRUE(says(what, "build both from one source"));
    }
    EXPECT_EQ(t.pid(), 0);
}

TEST(StreamTarget, being_refused_for_its_version_is_passed_on) {
    abi::Text text{};
    std::strcpy(text.text, "only version 9");
    const auto* raw = reinterpret_cast<const u8*>(&text);
    StreamTarget t = target([&](Peer& peer) {
        peer.send(0, reply_bytes(abi::Op::hello, abi::Outcome::wrong_version, {raw, sizeof text}));
        peer.hang();
    });
    EXPECT_TRUE(says(what_of<TargetUnusable>([&] { t.hello(); }),
                     "refuses this program's version " + own_version + " of the ABI: only version 9"));
}

TEST(StreamTarget, miss_of_a_malformed_hello) {
    const auto misses = [](std::vector<u8> payload) {
        return miss_of_hello([payload = std::move(payload)](Peer& peer) {
            peer.send(0, payload);
            peer.hang();
        });
    };
    EXPECT_TRUE(says(misses(hello_bytes(abi::version, 3, 2)), "a malformed hello: reply body ends inside"));
    EXPECT_TRUE(says(misses(hello_bytes(abi::version, ~0u, 2)), "a malformed hello"));
    EXPECT_TRUE(says(misses(reply_bytes(abi::Op::hello, abi::Outcome::ok, {})), "a malformed hello"));
    EXPECT_TRUE(says(misses(reply_bytes(abi::Op::mem_read, abi::Outcome::ok, {})), "no hello"));
    EXPECT_TRUE(says(misses({}), "no hello"));
    EXPECT_TRUE(says(misses(hello_bytes(9)), "a malformed hello: it names version 9"));
}

TEST(StreamTarget, patience_scales_with_the_environment) {
    setenv("REFHV_PATIENCE", "0.01", 1);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(says(miss_of_hello([](Peer& peer) { peer.hang(); }, 10s), "no hello within 0.1 s"));
    StreamTarget t = target([](Peer& peer) {
        peer.hello();
        peer.hang();
    });
    t.hello();
    EXPECT_TRUE(says(what_of([&] { t.call(request(), 10s); }), "within 0.1 s"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
    for (const char* wrong : {"0", "-1", "much", "1x", "nan", "inf"}) {
        setenv("REFHV_PATIENCE", wrong, 1);
        EXPECT_THROW(target([](Peer&) {}), TargetUnusable) << wrong;
    }
    unsetenv("REFHV_PATIENCE");
}

} // namespace
} // namespace refhv::client
