// SPDX-License-Identifier: MIT
#include "refhv/client/stream_target.hpp"

#include "refhv/client/greeting.hpp"
#include "refhv/client/interruption.hpp"
#include "refhv/client/patience.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace refhv::client {
namespace {

// Between a machine's last byte and its wait status.
constexpr std::chrono::milliseconds end_grace{500};

std::string in_words(const abi::CrashReply& crash) {
    char text[160];
    std::snprintf(
        text, sizeof text,
        "the core crashed: exception vector %llu, error code %#llx, RIP %#llx, CR2 %#llx, in '%.*s'",
        static_cast<unsigned long long>(crash.vector), static_cast<unsigned long long>(crash.error),
        static_cast<unsigned long long>(crash.rip), static_cast<unsigned long long>(crash.cr2),
        static_cast<int>(strnlen(crash.where, sizeof crash.where)), crash.where);
    return text;
}

} // namespace

StreamTarget::StreamTarget(TargetInfo info, std::chrono::milliseconds hello_patience, Launch launch,
                           Settle settle)
    : info_(std::move(info)), hello_patience_(patience(hello_patience)),
      stop_patience_(patience(std::chrono::seconds{1})),
      run_end_patience_(patience(std::chrono::seconds{30})), launch_(std::move(launch)),
      settle_(std::move(settle)) {}

const HelloInfo& StreamTarget::hello() {
    if (!machine_) {
        start();
    }
    return hello_;
}

std::vector<u8> StreamTarget::call(std::span<const u8> payload, std::chrono::milliseconds patience) {
    const usize limit = std::min(hello().fixed.max_payload, abi::max_frame_payload);
    if (payload.size() > limit) {
        throw std::invalid_argument("a request of " + std::to_string(payload.size()) + " bytes, where " +
                                    info_.name + " takes at most " + std::to_string(limit) + ": split it");
    }
    channel_->post(abi::version, ++sequence_, payload);
    constexpr usize large_reply = usize{128} * 1024;
    return receive(sequence_, client::patience(patience) + on_the_line(payload.size() + large_reply));
}

void StreamTarget::stop() {
    if (machine_) {
        const auto deadline = FrameChannel::Clock::now() + stop_patience_;
        if (machine_->process.pid() == 0) {
            (void)end_vms(deadline);
            discard();
            return;
        }
        Batch batch;
        batch.add<abi::Op::shutdown>(abi::Hello{.version = abi::version, .zero = {}});
        channel_->post(abi::version, ++sequence_, batch.payload());
        while (channel_->await(deadline) == FrameChannel::Event::frame) {
            channel_->pop();
        }
        machine_->process.wait(std::chrono::ceil<Milliseconds>(deadline - FrameChannel::Clock::now()));
    }
    discard();
}

void StreamTarget::discard() {
    channel_.reset();
    machine_.reset();
}

void StreamTarget::launch() {
    try {
        machine_ = launch_();
    } catch (const TargetMiss& missed) {
        throw TargetMiss(info_.name + ": " + missed.what());
    } catch (const std::runtime_error& failure) { // TargetUnusable, SpawnFailed, std::system_error
        throw TargetUnusable(info_.name + ": " + failure.what());
    }
    channel_.emplace(machine_->output.get(), machine_->input.get());
}

std::vector<u8> StreamTarget::greeting() {
    constexpr usize large_hello = usize{16} * 1024;
    if (machine_->ask_after) {
        return ask_for_hello(*machine_->ask_after);
    }
    return receive(0, hello_patience_ + on_the_line(large_hello));
}

void StreamTarget::start() {
    sequence_ = asked_from_ = asked_ = before_first_ = 0;
    ++generation_;
    launch();
    std::string tried;
    if (!machine_->tried.empty()) {
        tried = "; tried " + (info_.emulator.name.empty() ? "" : describe(info_.emulator) + " with ") +
                machine_->tried;
    }
    try {
        hello_ = read_hello(greeting());
        channel_->pack_requests(hello_.fixed.platform == static_cast<u16>(abi::Platform::image));
        if (machine_->ask_after) {
            constexpr usize replies = 1024;
            if (!end_vms(FrameChannel::Clock::now() + stop_patience_ + on_the_line(replies))) {
                miss("no answer when it was asked to end the VMs of an earlier client");
            }
            before_first_ = sequence_;
        }
    } catch (const TargetMiss& missed) {
        throw TargetMiss(missed.what() + tried);
    }
    if (settle_) {
        try {
            settle_(info_, hello_);
        } catch (const TargetUnusable& unusable) {
            discard();
            throw TargetUnusable(info_.name + ": " + unusable.what());
        }
    }
}

std::string StreamTarget::in_seconds(Milliseconds time) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g s", static_cast<double>(time.count()) / 1000);
    return text;
}

std::string StreamTarget::during(u32 sequence) const {
    return sequence == 0 || was_asked(sequence)
               ? "before its hello"
               : "during request " + std::to_string(sequence - before_first_);
}

std::vector<u8> StreamTarget::receive(u32 sequence, Milliseconds patience) {
    using Event = FrameChannel::Event;
    const auto deadline = FrameChannel::Clock::now() + patience;
    for (;;) {
        switch (channel_->await(deadline)) {
        case Event::frame:
            break;
        case Event::closed:
            machine_->process.wait(end_grace);
            miss(closed() + during(sequence));
        case Event::silence:
            miss("no " +
                 (sequence == 0 ? "hello" : "answer to request " + std::to_string(sequence - before_first_)) +
                 " within " + in_seconds(patience));
        case Event::damaged:
            miss("a frame with a wrong checksum " + during(sequence));
        case Event::rubbish:
            miss("more than " + std::to_string(FrameChannel::noise_limit) + " bytes of rubbish " +
                 during(sequence));
        case Event::interrupted:
            end_request(sequence);
        }
        const FrameHeader header = channel_->header();
        const std::span<const u8> bytes = channel_->payload();
        std::vector<u8> payload(bytes.begin(), bytes.end());
        channel_->pop();
        if (was_asked(header.sequence) && header.kind == static_cast<u16>(FrameKind::reply)) {
            continue; // hello once more: it was asked for more than once
        }
        check(header, payload, sequence);
        return payload;
    }
}

void StreamTarget::end_request(u32 sequence) {
    // A process, also one whose guest is KVM's, is in its guest and hears nothing; before the greeting there
    // is no run to be stopped. Whoever does not want to wait asks once more.
    const bool hears = info_.kind != "process" && info_.kind != "kvm";
    if (sequence != 0 && hears) {
        const auto deadline = FrameChannel::Clock::now() + run_end_patience_;
        channel_->nudge();
        while (channel_->await(deadline) == FrameChannel::Event::frame) {
            const bool answered = channel_->header().sequence == sequence;
            channel_->pop();
            if (answered) {
                throw Interrupted(info_.name +
                                  ": the run was stopped; the target and its VMs are there still");
            }
        }
    }
    const std::string when = during(sequence);
    discard();
    throw Interrupted(info_.name + ": interrupted " + when +
                      "; it was ended, its VMs are gone, and the next call starts it afresh");
}

void StreamTarget::check(const FrameHeader& header, const std::vector<u8>& payload, u32 sequence) {
    // Another version's payload may mean anything; only its frame header can be read.
    if (header.version != abi::version) {
        throw TargetUnusable(obituary("its core speaks version " + std::to_string(header.version) +
                                      " of the ABI, this program version " + std::to_string(abi::version) +
                                      ": build both from one source"));
    }
    if (header.kind == static_cast<u16>(FrameKind::packed_reply)) {
        miss("a packed reply that is damaged, " + during(sequence));
    }
    std::vector<Reply> replies;
    try {
        replies = parse_replies(payload);
        for (const Reply& reply : replies) {
            if (reply.outcome == abi::Outcome::crashed) {
                miss(in_words(reply.as<abi::CrashReply>()) + ", " + during(sequence));
            }
            if (reply.outcome == abi::Outcome::wrong_version) {
                throw TargetUnusable(obituary("its core refuses this program's version " +
                                              std::to_string(abi::version) + " of the ABI: " + reply.text()));
            }
        }
    } catch (const MalformedReply& malformed) {
        miss("a malformed reply " + during(sequence) + ": " + malformed.what());
    }
    if (header.kind != static_cast<u16>(FrameKind::reply)) {
        miss("a frame of kind " + std::to_string(header.kind) + " where a reply is due, " + during(sequence));
    }
    if (sequence != 0 && header.sequence == 0 && replies.size() == 1 && replies[0].op == abi::Op::hello) {
        miss("its core restarted by itself " + during(sequence));
    }
    if (header.sequence != sequence) {
        miss("an answer to request " + std::to_string(header.sequence - before_first_) +
             " where one to request " + std::to_string(sequence - before_first_) + " is due");
    }
}

HelloInfo StreamTarget::read_hello(const std::vector<u8>& payload) {
    try {
        return read_greeting(payload);
    } catch (const MalformedReply& malformed) {
        miss(std::string("a malformed hello: ") + malformed.what());
    }
}

std::string StreamTarget::obituary(const std::string& what) {
    std::string text = info_.name + ": " + what;
    if (machine_) {
        if (pid() != 0) {
            const std::optional<int> status = machine_->process.wait({});
            text += status ? "; " + describe_wait_status(*status)
                           : "; killed (process " + std::to_string(pid()) + ")";
            machine_->process.kill();
        }
        if (const std::string words = machine_->last_words ? machine_->last_words() : ""; !words.empty()) {
            text += "; its log: " + words;
        } else if (const std::string said = channel_->said(); !said.empty()) {
            text += "; it last said '" + said + "'";
        }
    }
    discard();
    return text;
}

} // namespace refhv::client
