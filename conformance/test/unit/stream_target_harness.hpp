// SPDX-License-Identifier: MIT
// StreamTargets over scripted machines, and what they say when those fail.
#pragma once

#include "conformance/test/unit/fake_peer.hpp"

#include "refhv/client/stream_target.hpp"

#include <csignal>
#include <gtest/gtest.h>

namespace refhv::client {

using namespace std::chrono_literals;

inline constexpr auto soon = 400ms; // the patience with those that are expected to fail
inline constexpr auto plenty = 20s; // and with those that are not

inline StreamTarget target(Script script, std::chrono::milliseconds patience = plenty) {
    return StreamTarget{{"fake", "image", "vmx", true, "ticks", "a fake"},
                        patience,
                        [script = std::move(script)] { return launch_peer(script); }};
}

// A machine that fails the first time it is launched and serves the second time.
inline StreamTarget failing(Script script, std::chrono::milliseconds patience = plenty) {
    return StreamTarget{{"fake", "image", "vmx", true, "ticks", "a fake"},
                        patience,
                        [script = std::move(script), launches = 0]() mutable {
                            return launch_peer(launches++ == 0 ? script : Script{[](Peer& peer) {
                                peer.hello();
                                peer.echo();
                            }});
                        }};
}

inline std::vector<u8> request() {
    Batch batch;
    batch.add(abi::Op::state_get, abi::VmRef{.vm = 1, .zero = 0});
    return {batch.payload().begin(), batch.payload().end()};
}

inline testing::AssertionResult says(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos
               ? testing::AssertionSuccess()
               : testing::AssertionFailure() << "'" << text << "' lacks '" << part << "'";
}

template <class Failure = TargetMiss, class Action>
std::string what_of(Action action) {
    try {
        action();
    } catch (const Failure& failure) {
        std::string text = failure.what();
        EXPECT_EQ(text.find('\n'), std::string::npos) << "not one line: " << text;
        return text;
    } catch (const std::exception& other) {
        ADD_FAILURE() << "another exception: " << other.what();
        return {};
    }
    ADD_FAILURE() << "no exception";
    return {};
}

inline std::string miss_of_hello(Script script, std::chrono::milliseconds patience = plenty) {
    StreamTarget t = target(std::move(script), patience);
    return what_of([&] { t.hello(); });
}

// What a call says to a machine that does `script` after its hello; and that the next call finds it
// restarted.
inline std::string miss_of_call(Script script, std::chrono::milliseconds patience = plenty) {
    StreamTarget t = failing([script = std::move(script)](Peer& peer) {
        peer.hello();
        script(peer);
    });
    t.hello();
    const pid_t pid = t.pid();
    std::string what = what_of([&] { t.call(request(), patience); });
    EXPECT_EQ(t.pid(), 0);
    EXPECT_NE(kill(pid, 0), 0) << "the failed machine still runs";
    EXPECT_EQ(t.generation(), 1u);
    EXPECT_EQ(t.call(request(), plenty), request());
    EXPECT_EQ(t.generation(), 2u);
    return what;
}

} // namespace refhv::client
