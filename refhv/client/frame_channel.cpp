// SPDX-License-Identifier: MIT
#include "refhv/client/frame_channel.hpp"

#include "refhv/client/interruption.hpp"
#include "refhv/contract/abi.hpp"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace refhv::client {
namespace {

constexpr usize read_size = 64 * 1024;
constexpr usize tail_size = 160;

int milliseconds_until(FrameChannel::Clock::time_point deadline) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - FrameChannel::Clock::now()).count();
    constexpr long long longest = 60'000, while_interruptible = 50;
    return static_cast<int>(
        std::clamp<long long>(left, 0, Interruption::possible() ? while_interruptible : longest));
}

bool passing(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

} // namespace

FrameChannel::FrameChannel(int output, int input)
    : output_(output), input_(input), storage_(sizeof(FrameHeader) + abi::max_frame_payload),
      decoder_(storage_) {}

void FrameChannel::post(u16 version, u32 sequence, std::span<const u8> payload) {
    FrameKind kind = FrameKind::request;
    if (packs_) {
        // A short one may become longer, for its answer is packed then, too.
        constexpr usize short_one = 4096;
        packed_.resize(std::max(payload.size(), short_one + short_one / 64));
        if (const usize size = packer_.pack(payload, packed_); size != 0) {
            payload = std::span{packed_}.first(size);
            kind = FrameKind::packed_request;
        }
    }
    const FrameHeader header = make_frame_header(version, kind, sequence, payload);
    const auto* raw = reinterpret_cast<const u8*>(&header);
    outbox_.insert(outbox_.end(), raw, raw + sizeof header);
    outbox_.insert(outbox_.end(), payload.begin(), payload.end());
}

void FrameChannel::nudge() {
    outbox_.push_back(0);
}

FrameChannel::Event FrameChannel::await(Clock::time_point deadline, Half half) {
    bool damage_seen = false;
    bool open = true;
    for (;;) {
        if (decode()) {
            return Event::frame;
        }
        if (!open) {
            return Event::closed;
        }
        if (decoder_.noise_bytes() - noise_before_ > noise_limit) {
            return Event::rubbish;
        }
        if (!damage_seen && decoder_.damaged_frames() != damaged_before_) {
            damage_seen = true;
            deadline = std::min(deadline, Clock::now() + damage_grace);
        }
        const bool sending = outbox_sent_ != outbox_.size();
        pollfd waits[2]{{.fd = output_, .events = POLLIN, .revents = 0},
                        {.fd = sending ? input_ : -1, .events = POLLOUT, .revents = 0}};
        const int ready = poll(waits, 2, milliseconds_until(deadline));
        if (ready > 0) {
            if (waits[1].revents != 0) {
                transmit();
            }
            open = waits[0].revents == 0 || receive();
        } else if (Clock::now() >= deadline) {
            while (half == Half::give_up && decoder_.pending() && !decoder_.has_frame()) {
                decoder_.abandon();
            }
            if (decode()) {
                return Event::frame;
            }
            return damage_seen ? Event::damaged : Event::silence;
        } else if (Interruption::asked()) {
            return Event::interrupted;
        }
    }
}

FrameHeader FrameChannel::header() const {
    FrameHeader header = decoder_.header();
    if (unpacked_) {
        header.kind = static_cast<u16>(FrameKind::reply);
    }
    return header;
}

std::span<const u8> FrameChannel::payload() const {
    return unpacked_ ? *unpacked_ : decoder_.payload();
}

void FrameChannel::pop() {
    decoder_.pop();
    unpacked_.reset();
    looked_at_ = false;
    forgive();
    tail_.clear();
}

void FrameChannel::forgive() {
    noise_before_ = decoder_.noise_bytes();
    damaged_before_ = decoder_.damaged_frames();
}

std::string FrameChannel::said() const {
    const auto first = tail_.find_first_not_of(' ');
    return first == std::string::npos ? std::string{}
                                      : tail_.substr(first, tail_.find_last_not_of(' ') + 1 - first);
}

bool FrameChannel::decode() {
    while (!decoder_.has_frame() && inbox_used_ != inbox_.size()) {
        inbox_used_ += decoder_.push(std::span{inbox_}.subspan(inbox_used_));
    }
    if (!decoder_.has_frame()) {
        return false;
    }
    const bool packed = decoder_.header().kind == static_cast<u16>(FrameKind::packed_reply);
    if (packed && !looked_at_) {
        unpacked_storage_.resize(abi::max_frame_payload);
        unpacked_ = unpack_payload(decoder_.payload(), unpacked_storage_);
    }
    looked_at_ = true;
    return true;
}

bool FrameChannel::receive() {
    inbox_.resize(read_size);
    inbox_used_ = 0;
    const ssize_t got = read(output_, inbox_.data(), inbox_.size());
    const int error = errno;
    inbox_.resize(got > 0 ? static_cast<usize>(got) : 0);
    received_ += inbox_.size();
    for (u8 byte : std::span{inbox_}.last(std::min(inbox_.size(), tail_size))) {
        const bool printable = byte > ' ' && byte < 0x7f;
        if (printable || tail_.empty() || tail_.back() != ' ') {
            tail_ += printable ? static_cast<char>(byte) : ' ';
        }
    }
    tail_.erase(0, tail_.size() - std::min(tail_.size(), tail_size));
    return got > 0 || (got < 0 && passing(error));
}

void FrameChannel::transmit() {
    const std::span<const u8> rest = std::span{outbox_}.subspan(outbox_sent_);
    ssize_t sent = send(input_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == ENOTSOCK) {
        sent = write(input_, rest.data(), rest.size());
    }
    if (sent > 0) {
        outbox_sent_ += static_cast<usize>(sent);
    } else if (sent < 0 && !passing(errno)) {
        outbox_sent_ = outbox_.size(); // the reader is gone; await() finds that the output has ended too
    }
    if (outbox_sent_ == outbox_.size()) {
        outbox_.clear();
        outbox_sent_ = 0;
    }
}

} // namespace refhv::client
