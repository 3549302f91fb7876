// SPDX-License-Identifier: MIT
#include "conformance/test/unit/fake_peer.hpp"

#include "refhv/client/socket_pair.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unistd.h>

namespace refhv::client {
namespace {

constexpr int output_fd = 3;
constexpr int input_fd = 4;

} // namespace

Peer::Request Peer::take() {
    for (;;) {
        const usize taken = decoder_.push(inbox_);
        inbox_.erase(inbox_.begin(), inbox_.begin() + static_cast<std::ptrdiff_t>(taken));
        if (decoder_.has_frame()) {
            const auto payload = decoder_.payload();
            Request request{decoder_.header(), {payload.begin(), payload.end()}};
            decoder_.pop();
            abi::OpHeader first{};
            std::memcpy(&first, request.payload.data(), std::min(sizeof first, request.payload.size()));
            if (first.op == static_cast<u16>(abi::Op::shutdown)) {
                send(request.header.sequence, reply_bytes(abi::Op::shutdown, abi::Outcome::ok, {}));
                _exit(0);
            }
            return request;
        }
        inbox_.resize(64 * 1024);
        const ssize_t got = read(input_fd, inbox_.data(), inbox_.size());
        if (got <= 0) {
            _exit(0);
        }
        inbox_.resize(static_cast<usize>(got));
    }
}

void Peer::say(std::span<const u8> bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(output_fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) {
            _exit(0);
        }
        bytes = bytes.subspan(static_cast<usize>(sent));
    }
}

void Peer::say(std::string_view text) {
    say({reinterpret_cast<const u8*>(text.data()), text.size()});
}

void Peer::send(u32 sequence, std::span<const u8> payload, u16 version, FrameKind kind) {
    say(frame_bytes(sequence, payload, version, kind));
}

void Peer::hello() {
    send(0, hello_bytes());
}

void Peer::echo() {
    for (;;) {
        const Request request = take();
        send(request.header.sequence, request.payload);
    }
}

void Peer::hang() {
    for (;;) {
        pause();
    }
}

Machine launch_peer(const Script& script) {
    SocketPair output;
    SocketPair input;
    const std::array given{output.theirs.get(), input.theirs.get()};
    Process process = Process::fork(given, [&script] {
        Peer peer;
        script(peer);
        return 0;
    });
    return {.process = std::move(process),
            .output = std::move(output.ours),
            .input = std::move(input.ours),
            .held = {},
            .last_words = {}};
}

std::vector<u8> frame_bytes(u32 sequence, std::span<const u8> payload, u16 version, FrameKind kind) {
    const FrameHeader header = make_frame_header(version, kind, sequence, payload);
    std::vector<u8> bytes(sizeof header + payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
    return bytes;
}

std::vector<u8> reply_bytes(abi::Op op, abi::Outcome outcome, std::span<const u8> body) {
    const abi::ReplyHeader header{.op = static_cast<u16>(op),
                                  .outcome = static_cast<u16>(outcome),
                                  .size = static_cast<u32>(body.size())};
    std::vector<u8> bytes(sizeof header + abi::align8(body.size()));
    std::memcpy(bytes.data(), &header, sizeof header);
    std::copy(body.begin(), body.end(), bytes.begin() + sizeof header);
    return bytes;
}

std::vector<u8> hello_bytes(u16 version, u32 cpuid_count, u32 leaves_sent) {
    abi::HelloReply fixed{};
    fixed.version = version;
    fixed.max_payload = abi::max_frame_payload;
    fixed.cpuid_count = cpuid_count;
    std::memset(fixed.note, 'n', sizeof fixed.note); // without an end
    std::vector<u8> body(sizeof fixed + leaves_sent * sizeof(abi::CpuidLeaf));
    std::memcpy(body.data(), &fixed, sizeof fixed);
    for (u32 i = 0; i < leaves_sent; ++i) {
        const abi::CpuidLeaf leaf{.leaf = i, .subleaf = 0, .eax = 100 + i, .ebx = 0, .ecx = 0, .edx = 0};
        std::memcpy(body.data() + sizeof fixed + i * sizeof leaf, &leaf, sizeof leaf);
    }
    return reply_bytes(abi::Op::hello, abi::Outcome::ok, body);
}

} // namespace refhv::client
