// SPDX-License-Identifier: MIT
// StreamTarget at the end of a line to a machine that nobody started here: up long ago, booting, another's,
// or no machine at all.
#include "conformance/test/unit/stream_target_harness.hpp"

#include <memory>

namespace refhv::client {
namespace {

// Answers as the core does: hello, and other operations with an outcome of theirs.
void serve(Peer& peer) {
    for (;;) {
        const Peer::Request r = peer.take();
        abi::OpHeader first{};
        __builtin_memcpy(&first, r.payload.data(), sizeof first);
        if (first.op == static_cast<u16>(abi::Op::hello)) {
            peer.send(r.header.sequence, hello_bytes());
        } else if (first.op == static_cast<u16>(abi::Op::vm_destroy)) {
            peer.send(r.header.sequence, reply_bytes(abi::Op::vm_destroy, abi::Outcome::bad_request, {}));
        } else {
            peer.send(r.header.sequence, r.payload);
        }
    }
}

// A line to scripted machines that are no children of the target: one more each time it is opened.
class Line {
  public:
    explicit Line(Script script) : script_(std::move(script)) {}

    StreamTarget target(std::chrono::milliseconds patience = plenty) {
        return StreamTarget{{"line", "image", "none", true, "ticks", "a line"}, patience, [this] {
                                Machine machine = launch_peer(script_);
                                *others_ = std::move(machine.process);
                                machine.process = Process{};
                                machine.ask_after = 0ms;
                                return machine;
                            }};
    }
    // Of the machine that was opened last.
    [[nodiscard]] Process& process() { return *others_; }

  private:
    Script script_;
    std::unique_ptr<Process> others_ = std::make_unique<Process>();
};

std::string miss_of_line(Script script, std::chrono::milliseconds patience = soon) {
    Line line(std::move(script));
    StreamTarget t = line.target(patience);
    return what_of([&] { t.hello(); });
}

TEST(AskedMachine, that_said_hello_long_ago_is_asked) {
    Line line(serve);
    StreamTarget t = line.target();
    EXPECT_EQ(t.hello().cpuid.size(), 2u);
    EXPECT_EQ(t.call(request(), plenty), request());
    EXPECT_EQ(t.pid(), 0);
}

TEST(AskedMachine, stays_up_when_the_client_goes) {
    Line line(serve);
    {
        StreamTarget t = line.target();
        t.hello();
    }
    // The script ends when its line closes, and not by an operation `shutdown`, which Peer takes as its end
    // before the line does.
    EXPECT_EQ(line.process().wait(plenty), 0);
}

TEST(AskedMachine, has_its_vms_ended_before_and_after) {
    Line line([](Peer& peer) {
        unsigned destroyed = 0;
        for (;;) {
            const Peer::Request r = peer.take();
            abi::OpHeader first{};
            __builtin_memcpy(&first, r.payload.data(), sizeof first);
            if (first.op == static_cast<u16>(abi::Op::hello)) {
                peer.send(r.header.sequence, hello_bytes());
                continue;
            }
            destroyed += first.op == static_cast<u16>(abi::Op::vm_destroy) ? 1 : 0;
            if (first.op == static_cast<u16>(abi::Op::state_get) && destroyed != abi::max_vms) {
                peer.hang();
            }
            peer.send(r.header.sequence, reply_bytes(static_cast<abi::Op>(first.op), abi::Outcome::ok, {}));
            if (destroyed == 2 * abi::max_vms) {
                _exit(7);
            }
        }
    });
    {
        StreamTarget t = line.target();
        EXPECT_EQ(parse_replies(t.call(request(), plenty)).at(0).outcome, abi::Outcome::ok);
    }
    EXPECT_EQ(line.process().wait(plenty), 7 << 8);
}

TEST(AskedMachine, that_boots_meanwhile_is_taken_at_its_own_word) {
    Line line([](Peer& peer) {
        peer.say("BIOS\r\nBooting from disk...\r\n");
        peer.hello(); // the question came too early and is answered late
        serve(peer);
    });
    StreamTarget t = line.target();
    t.hello();
    for (int i = 0; i < 3; ++i) { // the second hello is skipped
        EXPECT_EQ(t.call(request(), plenty), request());
    }
}

TEST(AskedMachine, answers_of_an_earlier_client_are_skipped) {
    Line line([](Peer& peer) {
        peer.send(1, request());
        peer.send(2, reply_bytes(abi::Op::vm_destroy, abi::Outcome::ok, {}));
        std::vector<u8> cut = frame_bytes(3, std::vector<u8>(500));
        cut.resize(200);
        peer.say(cut);
        cut = frame_bytes(4, request());
        cut.back() ^= 1;
        peer.say(cut);
        serve(peer);
    });
    StreamTarget t = line.target();
    EXPECT_EQ(t.call(request(), plenty), request());
}

TEST(AskedMachine, a_long_boot_before_hello_is_skipped) {
    Line line([](Peer& peer) {
        for (int i = 0; i < 5'000; ++i) {
            peer.say("[    0.000000] Booting a kernel that says a lot\r\n");
        }
        serve(peer);
    });
    StreamTarget t = line.target();
    EXPECT_EQ(t.call(request(), plenty), request());
}

TEST(AskedMachine, a_stranger_on_the_line_is_one_error) {
    const std::string what = miss_of_line([](Peer& peer) {
        peer.say("\r\nDebian GNU/Linux 12 host ttyS0\r\n\r\nhost login: ");
        peer.hang();
    });
    EXPECT_TRUE(says(what, "line: no hello within 0.4 s (asked for it 1 times, heard "));
    EXPECT_TRUE(says(what, " bytes): refhv's image must run there, with its COM1 on this line"));
    EXPECT_TRUE(says(what, "it last said 'Debian GNU/Linux 12 host ttyS0 host login:'"));
}

TEST(AskedMachine, a_stranger_who_never_stops_is_one_error) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(says(miss_of_line([](Peer& peer) {
                         for (;;) {
                             peer.say("all work and no play makes a dull line\n");
                         }
                     }),
                     "line: no hello within 0.4 s"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, plenty / 2);
}

TEST(AskedMachine, silence_is_one_error) {
    const std::string what = miss_of_line([](Peer& peer) { peer.hang(); });
    EXPECT_TRUE(says(what, "no hello within 0.4 s (asked for it 1 times, heard 0 bytes)"));
    EXPECT_EQ(what.find("killed"), std::string::npos) << "it is not ours to kill";
}

TEST(AskedMachine, a_line_that_closes_is_one_error) {
    EXPECT_TRUE(says(miss_of_line([](Peer&) {}, plenty), "line: the line was closed before its hello"));
    EXPECT_TRUE(says(miss_of_line(
                         [](Peer& peer) {
                             std::vector<u8> half = frame_bytes(0, hello_bytes());
                             half.resize(half.size() / 2);
                             peer.say(half);
                         },
                         plenty),
                     "line: the line was closed before its hello"));
}

TEST(AskedMachine, half_a_frame_is_one_error) {
    EXPECT_TRUE(says(miss_of_line([](Peer& peer) {
                         std::vector<u8> half = frame_bytes(0, hello_bytes());
                         half.resize(half.size() / 2);
                         peer.say(half);
                         peer.hang();
                     }),
                     "line: no hello within 0.4 s"));
}

TEST(AskedMachine, a_line_that_echoes_is_one_error) {
    const std::string what = miss_of_line(
        [](Peer& peer) {
            const Peer::Request r = peer.take();
            peer.send(r.header.sequence, r.payload, abi::version, FrameKind::request);
            peer.hang();
        },
        plenty);
    EXPECT_TRUE(says(what, "the line sends back what it is sent: an echo or a loop, and no machine"));
}

TEST(AskedMachine, of_another_version_is_told_apart) {
    Line line([](Peer& peer) {
        const Peer::Request r = peer.take();
        peer.send(r.header.sequence, hello_bytes(), abi::version + 1);
        peer.hang();
    });
    StreamTarget t = line.target();
    EXPECT_TRUE(says(what_of<TargetUnusable>([&] { t.hello(); }),
                     "its core speaks version " + std::to_string(abi::version + 1)));
}

TEST(AskedMachine, that_fails_is_asked_again_over_a_new_line) {
    Line line([](Peer& peer) {
        const u32 sequence = peer.take().header.sequence;
        peer.send(sequence, hello_bytes());
        for (u32 vm = 0; vm < abi::max_vms; ++vm) {
            peer.send(peer.take().header.sequence, request());
        }
        (void)peer.take();
        peer.hang();
    });
    StreamTarget t = line.target();
    t.hello();
    EXPECT_EQ(what_of([&] { t.call(request(), soon); }), "line: no answer to request 1 within 0.4 s");
    EXPECT_NO_THROW(t.hello());
    EXPECT_EQ(t.generation(), 2u);
}

TEST(AskedMachine, that_starts_again_by_itself_is_seen) {
    Line line([](Peer& peer) {
        peer.send(peer.take().header.sequence, hello_bytes());
        for (u32 vm = 0; vm < abi::max_vms; ++vm) {
            peer.send(peer.take().header.sequence, request());
        }
        (void)peer.take();
        peer.hello();
        peer.hang();
    });
    StreamTarget t = line.target();
    t.hello();
    EXPECT_EQ(what_of([&] { t.call(request(), plenty); }),
              "line: its core restarted by itself during request 1");
}

} // namespace
} // namespace refhv::client
