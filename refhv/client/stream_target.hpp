// SPDX-License-Identifier: MIT
// The target that every launcher makes: a machine at the other end of a byte stream, restarted when it fails.
//
// The machine speaks first: a reply frame with sequence 0 that holds one HelloReply. Then each request frame,
// sequence 1 and up, has one reply frame with its sequence.
//
// A machine that may be up already (Machine::ask_after) is asked for its hello, again and again until the
// patience ends. What comes before hello is skipped: words of a firmware or a kernel, answers to an earlier
// client. Sequences begin at random there, so that no such answer is taken for one of ours, and the VMs that
// an earlier client left are ended. One that is not our child stays up when we go, without VMs.
#pragma once

#include "refhv/client/batch.hpp"
#include "refhv/client/frame_channel.hpp"
#include "refhv/client/machine.hpp"
#include "refhv/client/target.hpp"

#include <functional>
#include <optional>

namespace refhv::client {

class StreamTarget final : public Target {
  public:
    // Starts a machine. May throw TargetUnusable or SpawnFailed.
    using Launch = std::function<Machine()>;

    // Completes the info of a target of which the greeting tells more. May throw TargetUnusable.
    using Settle = std::function<void(TargetInfo&, const HelloInfo&)>;

    // `hello_patience` bounds the time from launch to hello, before REFHV_PATIENCE.
    StreamTarget(TargetInfo info, std::chrono::milliseconds hello_patience, Launch launch,
                 Settle settle = {});
    ~StreamTarget() override { stop(); }

    [[nodiscard]] const TargetInfo& info() const override { return info_; }
    const HelloInfo& hello() override;
    // Throws std::invalid_argument for a payload larger than the core takes.
    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds patience) override;
    // Asks the machine to turn itself off, and kills it if it has not within a second (before
    // REFHV_PATIENCE).
    void stop() override;
    [[nodiscard]] unsigned generation() const override { return generation_; }
    // Of the running machine; 0: none, or no child of ours.
    [[nodiscard]] pid_t pid() const { return machine_ ? machine_->process.pid() : 0; }

  private:
    using Milliseconds = std::chrono::milliseconds;

    void start();
    void launch();
    [[nodiscard]] std::vector<u8> greeting();
    // The payload of a hello that was asked for, or that came by itself meanwhile.
    [[nodiscard]] std::vector<u8> ask_for_hello(Milliseconds after);
    // Ends all VMs of the machine. False: it does not answer.
    [[nodiscard]] bool end_vms(FrameChannel::Clock::time_point deadline);
    [[nodiscard]] bool was_asked(u32 sequence) const { return sequence - asked_from_ < asked_; }
    // How long the line takes for so many bytes, where that is known to matter.
    [[nodiscard]] Milliseconds on_the_line(usize bytes) const;
    // "during request 3": as a person counts, from the greeting on.
    [[nodiscard]] std::string during(u32 sequence) const;
    [[nodiscard]] std::string closed() const { return pid() != 0 ? "ended " : "the line was closed "; }
    [[nodiscard]] static std::string in_seconds(Milliseconds time);
    void discard(); // kills
    // The payload of the next frame, which answers request `sequence` (0: the greeting).
    [[nodiscard]] std::vector<u8> receive(u32 sequence, Milliseconds patience);
    // Whoever waits for the answer to request `sequence` was told not to: the machine is asked for the end of
    // its run, and killed if it does not answer. Throws Interrupted.
    [[noreturn]] void end_request(u32 sequence);
    // What the replies of a frame say against going on; throws or returns.
    void check(const FrameHeader& header, const std::vector<u8>& payload, u32 sequence);
    [[nodiscard]] HelloInfo read_hello(const std::vector<u8>& payload);
    // Ends the machine and returns "name: what; how it ended; its last words", on one line.
    [[nodiscard]] std::string obituary(const std::string& what);
    [[noreturn]] void miss(const std::string& what) { throw TargetMiss(obituary(what)); }

    TargetInfo info_;
    Milliseconds hello_patience_;
    Milliseconds stop_patience_;
    Milliseconds run_end_patience_; // from a wish that a run ends to its answer
    Launch launch_;
    Settle settle_;
    HelloInfo hello_;
    std::optional<Machine> machine_;
    std::optional<FrameChannel> channel_;
    u32 sequence_ = 0;
    u32 asked_from_ = 0, asked_ = 0; // the sequences with which hello was asked for: from, how many
    u32 before_first_ = 0;           // the sequence before that of the first request
    unsigned generation_ = 0;
};

} // namespace refhv::client
