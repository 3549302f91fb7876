// SPDX-License-Identifier: MIT
// The part of StreamTarget for machines that may be up already.
#include "refhv/client/stream_target.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace refhv::client {
namespace {

// Behind the first question, and between the others: longer than the image waits for the rest of a request
// (boot/image.cpp), for one that an earlier client left half sent eats ours. One that speaks is let speak for
// as long: its hello may be on its way, which on a slow line takes seconds.
constexpr std::chrono::milliseconds first_pause{1000}, longest_pause{6000};
constexpr std::chrono::milliseconds look{500}; // how often it is seen whether it speaks

u32 random_sequence() {
    return 1 + std::random_device{}() % (u32{1} << 30);
}

} // namespace

StreamTarget::Milliseconds StreamTarget::on_the_line(usize bytes) const {
    const unsigned rate = machine_ ? machine_->bytes_per_second : 0;
    return Milliseconds{rate == 0 ? 0 : bytes * 1000 / rate};
}

std::vector<u8> StreamTarget::ask_for_hello(Milliseconds after) {
    using Event = FrameChannel::Event;
    using Clock = FrameChannel::Clock;
    constexpr usize large_hello = usize{16} * 1024;
    Batch question;
    question.add<abi::Op::hello>(abi::Hello{.version = abi::version, .zero = {}});
    sequence_ = random_sequence();
    asked_from_ = sequence_ + 1;
    const auto patience = hello_patience_ + on_the_line(large_hello);
    const auto deadline = Clock::now() + patience;
    auto next = Clock::now() + after;
    auto latest = next; // by when it is asked even if it speaks
    auto wake = after < look ? next : Clock::now() + look;
    auto pause = first_pause;
    for (u64 received = 0;;) {
        const bool last = wake >= deadline;
        switch (channel_->await(std::min(wake, deadline),
                                last ? FrameChannel::Half::give_up : FrameChannel::Half::keep)) {
        case Event::frame: {
            const FrameHeader header = channel_->header();
            const std::span<const u8> bytes = channel_->payload();
            std::vector<u8> payload(bytes.begin(), bytes.end());
            channel_->pop();
            if (header.sequence != 0 && !was_asked(header.sequence)) {
                continue; // an answer to an earlier client
            }
            if (header.kind == static_cast<u16>(FrameKind::request)) {
                miss("the line sends back what it is sent: an echo or a loop, and no machine");
            }
            check(header, payload, header.sequence);
            return payload;
        }
        case Event::closed:
            machine_->process.wait(std::chrono::milliseconds{500});
            miss(closed() + "before its hello");
        case Event::rubbish:
        case Event::damaged:
            channel_->forgive();
            break;
        case Event::silence:
            break;
        case Event::interrupted:
            end_request(0);
        }
        if (Clock::now() >= deadline) {
            miss("no hello within " + in_seconds(patience) + " (asked for it " + std::to_string(asked_) +
                 " times, heard " + std::to_string(channel_->received()) +
                 " bytes): refhv's image must run there, with its COM1 on this line");
        }
        if (Clock::now() < wake) {
            continue;
        }
        if (pid() != 0 && machine_->process.wait({})) { // a terminal that we hold open tells of no end
            miss("ended before its hello");
        }
        const auto now = Clock::now();
        const bool speaks = channel_->received() != std::exchange(received, channel_->received());
        if (now >= (speaks ? latest : next)) {
            channel_->post(abi::version, ++sequence_, question.payload());
            ++asked_;
            next = now + pause;
            latest = now + longest_pause;
            pause = longest_pause;
        }
        wake = now + look;
    }
}

bool StreamTarget::end_vms(FrameChannel::Clock::time_point deadline) {
    for (u32 vm = 0; vm < abi::max_vms; ++vm) {
        Batch batch; // one each: a slot that is free ends its batch
        batch.add<abi::Op::vm_destroy>(abi::VmRef{.vm = vm, .zero = 0});
        channel_->post(abi::version, ++sequence_, batch.payload());
        for (bool answered = false; !answered;) {
            if (channel_->await(deadline) != FrameChannel::Event::frame) {
                return false;
            }
            answered = channel_->header().sequence == sequence_;
            channel_->pop();
        }
    }
    return true;
}

} // namespace refhv::client
