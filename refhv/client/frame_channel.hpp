// SPDX-License-Identifier: MIT
// Frames over two descriptors, with an end to every wait.
#pragma once

#include "refhv/contract/frame.hpp"
#include "refhv/contract/packing.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace refhv::client {

class FrameChannel {
  public:
    using Clock = std::chrono::steady_clock;

    // Why a wait ended.
    enum class Event {
        frame,       // header() and payload() hold it, until pop()
        closed,      // the other side has gone
        silence,     // the deadline passed
        damaged,     // a frame came whose payload is not what was sent, and no good one soon after
        rubbish,     // more than noise_limit bytes without a frame
        interrupted, // interruption.hpp
    };

    // A BIOS and an emulator's greeting are a few KB; no more than that precedes a frame.
    static constexpr u64 noise_limit = 64 * 1024;
    // How long a good frame may take to follow a damaged one; the lost one does not come again.
    static constexpr std::chrono::milliseconds damage_grace{500};

    // Both non-blocking and owned by the caller; `input` is a socket or a terminal (a pipe could raise
    // SIGPIPE).
    FrameChannel(int output, int input);

    // Queues a request; await() sends.
    void post(u16 version, u32 sequence, std::span<const u8> payload);
    // The other side takes packed requests, and answers them packed. A reply that comes packed is unpacked
    // here, and is of kind `reply` to the caller.
    void pack_requests(bool on) { packs_ = on; }
    // Queues a byte that begins no frame: the bootable image takes any byte for the wish that its run ends.
    void nudge();
    // Sends what is queued and reads until something is to be said about it. A frame that is half there at
    // the deadline is given up, for it may have swallowed good ones, or is waited for on with the next call.
    enum class Half {
        give_up,
        keep,
    };
    [[nodiscard]] Event await(Clock::time_point deadline, Half half = Half::give_up);

    [[nodiscard]] FrameHeader header() const;
    [[nodiscard]] std::span<const u8> payload() const;
    void pop();
    // Counts noise and damage from here on, as behind a frame.
    void forgive();
    // Bytes that have come, of whatever kind.
    [[nodiscard]] u64 received() const { return received_; }

    // The last printable bytes since the last frame, control characters as blanks; possibly empty.
    [[nodiscard]] std::string said() const;

  private:
    bool decode();  // feeds the decoder from the inbox; true with a whole frame, unpacked
    bool receive(); // false at the end of the stream
    void transmit();

    int output_, input_;
    std::vector<u8> storage_, inbox_, outbox_;
    FrameDecoder decoder_;
    Packer<1> packer_;
    std::vector<u8> packed_, unpacked_storage_;
    std::optional<std::span<const u8>> unpacked_; // of the frame at hand
    bool looked_at_ = false;                      // the frame at hand
    bool packs_ = false;
    usize inbox_used_ = 0, outbox_sent_ = 0;
    u64 noise_before_ = 0, damaged_before_ = 0; // the decoder's counts at the last frame
    u64 received_ = 0;
    std::string tail_;
};

} // namespace refhv::client
