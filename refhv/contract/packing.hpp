// SPDX-License-Identifier: MIT
// Payloads packed for a byte stream, in LZ4's block format: most of a request or a reply is zeros and what
// stood there before. A packed payload is a PackedHeader and one block. No state outlives a frame, so that a
// lost one costs no other. Freestanding: memory is the caller's.
#pragma once

#include "refhv/contract/types.hpp"

#include <array>
#include <optional>
#include <span>

namespace refhv {

struct PackedHeader {
    u32 size; // bytes of what was packed
    u32 zero;
};

namespace detail {

inline constexpr usize shortest_match = 4, farthest_match = 0xffff;
// The block format's rules about its end: so many bytes are literals, and no match begins in the last so
// many.
inline constexpr usize last_literals = 5, last_match = 12;
inline constexpr usize nibble = 15; // of a token: bytes follow that add to it

[[nodiscard]] inline u64 word_at(const u8* at) {
    u64 word;
    __builtin_memcpy(&word, at, sizeof word);
    return word;
}

// Adds the bytes behind a full nibble; false: they go beyond the block, or the sum beyond `most`.
[[nodiscard]] inline bool add_length(std::span<const u8> block, usize& at, usize& length, usize most) {
    u8 more = 0xff;
    while (more == 0xff) {
        if (at == block.size() || length > most) {
            return false;
        }
        more = block[at++];
        length += more;
    }
    return length <= most;
}

// Forward, byte for byte in effect: a match may reach into what it writes.
inline void copy_match(u8* to, usize offset, usize length) {
    const u8* from = to - offset;
    usize i = 0;
    if (offset >= sizeof(u64)) {
        for (; i + sizeof(u64) <= length; i += sizeof(u64)) {
            __builtin_memcpy(to + i, from + i, sizeof(u64));
        }
    }
    for (; i < length; ++i) {
        to[i] = from[i];
    }
}

} // namespace detail

// The block in `block`, which must come to exactly out.size() bytes; false: it does not, and `out` holds
// anything. No byte outside the two is touched, whatever the block says.
[[nodiscard]] inline bool unpack(std::span<const u8> block, std::span<u8> out) {
    using namespace detail;
    usize in = 0, done = 0;
    while (in != block.size()) {
        const u8 token = block[in++];
        usize literals = token >> 4;
        if (literals == nibble && !add_length(block, in, literals, out.size() - done)) {
            return false;
        }
        if (literals > block.size() - in || literals > out.size() - done) {
            return false;
        }
        __builtin_memcpy(out.data() + done, block.data() + in, literals);
        in += literals;
        done += literals;
        if (in == block.size()) {
            return done == out.size();
        }
        if (block.size() - in < 2) {
            return false;
        }
        const usize offset = block[in] | block[in + 1] << 8;
        in += 2;
        usize length = token & nibble;
        if (length == nibble && !add_length(block, in, length, out.size() - done)) {
            return false;
        }
        length += shortest_match;
        if (offset == 0 || offset > done || length > out.size() - done) {
            return false;
        }
        copy_match(out.data() + done, offset, length);
        done += length;
    }
    return false; // a block ends with literals
}

// What a packed payload held, in `room`; nothing: it is damaged, or what it held does not fit.
[[nodiscard]] inline std::optional<std::span<const u8>> unpack_payload(std::span<const u8> packed,
                                                                       std::span<u8> room) {
    PackedHeader header;
    if (packed.size() < sizeof header) {
        return {};
    }
    __builtin_memcpy(&header, packed.data(), sizeof header);
    if (header.size > room.size() || !unpack(packed.subspan(sizeof header), room.first(header.size))) {
        return {};
    }
    return room.first(header.size);
}

// Packs payloads, looking for matches at every `step` bytes. Everything in a payload is a multiple of 8
// bytes: with 8 it takes about an instruction a byte, with 1 the block is a third smaller.
template <usize step>
class Packer {
  public:
    // How many bytes of `out` the PackedHeader and the block of `payload` take; 0: they do not fit.
    [[nodiscard]] usize pack(std::span<const u8> payload, std::span<u8> out) {
        using namespace detail;
        if (out.size() < sizeof(PackedHeader)) {
            return 0;
        }
        const PackedHeader header{.size = static_cast<u32>(payload.size()), .zero = 0};
        __builtin_memcpy(out.data(), &header, sizeof header);
        out_ = out;
        used_ = sizeof header;
        seen_ = {};
        const u8* const in = payload.data();
        usize literals = 0; // where those not yet written begin
        for (usize at = 0; at + last_match < payload.size();) {
            const u64 word = word_at(in + at);
            u32& seen = seen_[word * hash_factor >> (64 - table_bits)];
            const usize from = seen - 1;
            const bool match = seen != 0 && at - from <= farthest_match && word_at(in + from) == word;
            seen = static_cast<u32>(at + 1);
            if (!match) {
                at += step;
                continue;
            }
            const usize end = match_end(in, from, at, payload.size() - last_literals);
            if (!write(payload.subspan(literals, at - literals), at - from, end - at)) {
                return 0;
            }
            literals = end;
            at = (end + step - 1) / step * step;
        }
        return write(payload.subspan(literals), 0, 0) ? used_ : 0;
    }

  private:
    static constexpr usize table_bits = 10;
    static constexpr u64 hash_factor = 0x9e37'79b9'7f4a'7c15; // 2^64 over the golden ratio

    static usize match_end(const u8* in, usize from, usize at, usize limit) {
        const usize distance = at - from;
        usize end = at + sizeof(u64);
        while (end + sizeof(u64) <= limit &&
               detail::word_at(in + end) == detail::word_at(in + end - distance)) {
            end += sizeof(u64);
        }
        while (end < limit && in[end] == in[end - distance]) {
            ++end;
        }
        return end < limit ? end : limit;
    }

    bool put(usize byte) {
        if (used_ == out_.size()) {
            return false;
        }
        out_[used_++] = static_cast<u8>(byte);
        return true;
    }
    bool put_length(usize beyond_nibble) {
        for (; beyond_nibble >= 0xff; beyond_nibble -= 0xff) {
            if (!put(0xff)) {
                return false;
            }
        }
        return put(beyond_nibble);
    }
    // One sequence; distance 0: the last, which has no match.
    bool write(std::span<const u8> literals, usize distance, usize length) {
        using namespace detail;
        const usize more = distance != 0 ? length - shortest_match : 0;
        const auto in_token = [](usize n) { return n < nibble ? n : nibble; };
        if (!put(in_token(literals.size()) << 4 | in_token(more)) ||
            (literals.size() >= nibble && !put_length(literals.size() - nibble)) ||
            literals.size() > out_.size() - used_) {
            return false;
        }
        __builtin_memcpy(out_.data() + used_, literals.data(), literals.size());
        used_ += literals.size();
        return distance == 0 ||
               (put(distance & 0xff) && put(distance >> 8) && (more < nibble || put_length(more - nibble)));
    }

    std::span<u8> out_;
    usize used_ = 0;
    std::array<u32, usize{1} << table_bits> seen_{}; // by hash: 1 + where such a word stood last
};

} // namespace refhv
