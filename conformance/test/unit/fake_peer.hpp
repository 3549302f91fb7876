// SPDX-License-Identifier: MIT
// A scripted machine for the other end of a StreamTarget: a child process that does what a test says, right
// or wrong.
#pragma once

#include "refhv/client/machine.hpp"
#include "refhv/contract/abi.hpp"
#include "refhv/contract/frame.hpp"

#include <functional>
#include <string_view>
#include <vector>

namespace refhv::client {

// What a script has at hand, inside the child.
class Peer {
  public:
    struct Request {
        FrameHeader header;
        std::vector<u8> payload;
    };

    // Ends the child, with status 0, once the other side has gone or asks for an end.
    [[nodiscard]] Request take();
    void say(std::span<const u8> bytes);
    void say(std::string_view text);
    void send(u32 sequence, std::span<const u8> payload, u16 version = abi::version,
              FrameKind kind = FrameKind::reply);
    void hello();
    // Takes requests and answers each with itself, for ever.
    [[noreturn]] void echo();
    [[noreturn]] void hang();

  private:
    std::vector<u8> storage_ = std::vector<u8>(sizeof(FrameHeader) + abi::max_frame_payload);
    FrameDecoder decoder_{storage_};
    std::vector<u8> inbox_;
};

using Script = std::function<void(Peer&)>;

// A child that runs `script` and ends with status 0.
[[nodiscard]] Machine launch_peer(const Script& script);

// Bytes of a frame, of a reply payload with one reply, of a hello.
[[nodiscard]] std::vector<u8> frame_bytes(u32 sequence, std::span<const u8> payload,
                                          u16 version = abi::version, FrameKind kind = FrameKind::reply);
[[nodiscard]] std::vector<u8> reply_bytes(abi::Op op, abi::Outcome outcome, std::span<const u8> body);
[[nodiscard]] std::vector<u8> hello_bytes(u16 version = abi::version, u32 cpuid_count = 2,
                                          u32 leaves_sent = 2);

} // namespace refhv::client
