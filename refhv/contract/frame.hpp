// SPDX-License-Identifier: MIT
// Framing for byte streams: a serial line on which a BIOS, an emulator or a stranger may also speak.
//
// A frame is a FrameHeader and `length` bytes. The header's layout is frozen for every version of the ABI, so
// that a client and a core of different versions can still tell each other so. The decoder takes bytes as
// they come, finds frames among noise, and after a bad CRC searches again from the byte after the false
// start, so that no good frame behind a damaged one is lost. Freestanding: memory is the caller's.
#pragma once

#include "refhv/contract/types.hpp"

#include <array>
#include <span>

namespace refhv {

struct FrameHeader {
    u32 magic;
    u16 version;  // abi::version of the sender
    u16 kind;     // FrameKind
    u32 sequence; // of a reply: that of its request; 0: unasked
    u32 length;   // bytes of payload
    u32 payload_crc;
    u32 header_crc; // over all the fields before it
};
static_assert(sizeof(FrameHeader) == 24);

inline constexpr u32 frame_magic = 0x7648'4652; // "RFHv" in memory

enum class FrameKind : u16 {
    request = 1,
    reply = 2,
    packed_request = 3, // packing.hpp; what came packed is answered packed, where that is shorter
    packed_reply = 4,
};

namespace detail {
consteval std::array<u32, 256> make_crc32_table() {
    std::array<u32, 256> table{};
    for (u32 i = 0; i < 256; ++i) {
        u32 c = i;
        for (int bit = 0; bit < 8; ++bit) {
            c = (c & 1) != 0 ? 0xedb8'8320u ^ (c >> 1) : c >> 1;
        }
        table[i] = c;
    }
    return table;
}
inline constexpr auto crc32_table = make_crc32_table();
} // namespace detail

// CRC-32 of IEEE 802.3 (reflected, initial value and final XOR all ones): crc32("123456789") == 0xcbf43926.
// `seed` is the result for the bytes before.
[[nodiscard]] constexpr u32 crc32(std::span<const u8> bytes, u32 seed = 0) {
    u32 c = ~seed;
    for (u8 b : bytes) {
        c = detail::crc32_table[(c ^ b) & 0xff] ^ (c >> 8);
    }
    return ~c;
}

[[nodiscard]] inline u32 header_crc(const FrameHeader& h) {
    return crc32({reinterpret_cast<const u8*>(&h), offsetof(FrameHeader, header_crc)});
}

[[nodiscard]] inline FrameHeader make_frame_header(u16 version, FrameKind kind, u32 sequence,
                                                   std::span<const u8> payload) {
    FrameHeader h{.magic = frame_magic,
                  .version = version,
                  .kind = static_cast<u16>(kind),
                  .sequence = sequence,
                  .length = static_cast<u32>(payload.size()),
                  .payload_crc = crc32(payload),
                  .header_crc = 0};
    h.header_crc = header_crc(h);
    return h;
}

// Finds frames in a byte stream. Storage must hold the largest frame: sizeof(FrameHeader) + the payload
// limit.
class FrameDecoder {
  public:
    explicit FrameDecoder(std::span<u8> storage) : storage_(storage) {}

    // Takes bytes from `in` until a whole frame stands in the storage or `in` is empty; returns how many it
    // took. After a frame was seen (has_frame), call pop before the next push.
    usize push(std::span<const u8> in);

    [[nodiscard]] bool has_frame() const { return complete_; }
    [[nodiscard]] FrameHeader header() const;
    [[nodiscard]] std::span<const u8> payload() const {
        return storage_.subspan(sizeof(FrameHeader), complete_ ? header().length : 0);
    }
    void pop();

    // Bytes that belonged to no frame, and frames lost to a bad payload CRC, since construction.
    [[nodiscard]] u64 noise_bytes() const { return noise_; }
    [[nodiscard]] u64 damaged_frames() const { return damaged_; }
    // True in the middle of a frame.
    [[nodiscard]] bool pending() const { return fill_ != 0 && !complete_; }
    // Gives up the frame begun, if one is pending, and searches again behind its first byte.
    void abandon();

  private:
    void examine();         // decides on what stands in the storage
    void drop(usize count); // forgets bytes in front

    std::span<u8> storage_;
    usize fill_ = 0;
    u64 noise_ = 0;
    u64 damaged_ = 0;
    bool complete_ = false;
};

inline FrameHeader FrameDecoder::header() const {
    FrameHeader h;
    __builtin_memcpy(&h, storage_.data(), sizeof h);
    return h;
}

inline void FrameDecoder::drop(usize count) {
    fill_ -= count;
    __builtin_memmove(storage_.data(), storage_.data() + count, fill_);
}

inline void FrameDecoder::pop() {
    if (complete_) {
        complete_ = false;
        drop(sizeof(FrameHeader) + header().length);
        examine();
    }
}

inline void FrameDecoder::abandon() {
    if (pending()) {
        ++noise_;
        drop(1);
        examine();
    }
}

inline void FrameDecoder::examine() {
    constexpr u8 magic[4] = {frame_magic & 0xff, (frame_magic >> 8) & 0xff, (frame_magic >> 16) & 0xff,
                             (frame_magic >> 24) & 0xff};
    while (fill_ != 0) {
        // The longest run in front that cannot begin a frame goes in one step.
        usize skip = 0;
        while (skip < fill_) {
            usize matched = 0;
            while (matched < 4 && skip + matched < fill_ && storage_[skip + matched] == magic[matched]) {
                ++matched;
            }
            if (matched == 4 || skip + matched == fill_) {
                break;
            }
            ++skip;
        }
        if (skip != 0) {
            noise_ += skip;
            drop(skip);
        }
        if (fill_ < sizeof(FrameHeader)) {
            return;
        }
        const FrameHeader h = header();
        const bool sound = h.header_crc == header_crc(h) && h.length <= storage_.size() - sizeof(FrameHeader);
        if (sound && fill_ < sizeof(FrameHeader) + h.length) {
            return;
        }
        if (sound && crc32(storage_.subspan(sizeof(FrameHeader), h.length)) == h.payload_crc) {
            complete_ = true;
            return;
        }
        damaged_ += sound ? 1 : 0;
        ++noise_;
        drop(1);
    }
}

inline usize FrameDecoder::push(std::span<const u8> in) {
    usize taken = 0;
    while (!complete_ && taken < in.size()) {
        // Never more than the frame at hand still needs, so that what follows a whole frame stays with the
        // caller.
        usize want = 1;
        if (fill_ >= sizeof(FrameHeader)) {
            want = sizeof(FrameHeader) + header().length - fill_;
        } else if (fill_ >= 4) {
            want = sizeof(FrameHeader) - fill_;
        }
        const usize step = want < in.size() - taken ? want : in.size() - taken;
        __builtin_memcpy(storage_.data() + fill_, in.data() + taken, step);
        const bool inside = fill_ >= sizeof(FrameHeader); // behind a header that examine() found sound
        fill_ += step;
        taken += step;
        if (!inside || fill_ == sizeof(FrameHeader) + header().length) {
            examine();
        }
    }
    return taken;
}

} // namespace refhv
