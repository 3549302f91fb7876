// SPDX-License-Identifier: MIT
// The frame decoder (refhv/contract/frame.hpp) on a line where others speak too.
#include "refhv/contract/frame.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <string_view>
#include <vector>

namespace refhv {
namespace {

using Bytes = std::vector<u8>;

constexpr usize limit = 4096;

Bytes bytes_of(std::string_view text) {
    return {text.begin(), text.end()};
}

Bytes operator+(Bytes left, const Bytes& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

Bytes frame(u32 sequence, const Bytes& payload) {
    const FrameHeader header = make_frame_header(1, FrameKind::reply, sequence, payload);
    const auto* raw = reinterpret_cast<const u8*>(&header);
    return Bytes(raw, raw + sizeof header) + payload;
}

struct Seen {
    u32 sequence;
    Bytes payload;
    bool operator==(const Seen&) const = default;
};

struct Outcome {
    std::vector<Seen> frames;
    u64 noise = 0;
    u64 damaged = 0;
    bool pending = false;
};

// Feeds `in` in pieces of `step` bytes.
Outcome decode(const Bytes& in, usize step) {
    Bytes storage(sizeof(FrameHeader) + limit);
    FrameDecoder decoder{storage};
    Outcome out;
    for (std::span<const u8> rest = in; !rest.empty();) {
        std::span<const u8> piece = rest.first(std::min(step, rest.size()));
        rest = rest.subspan(piece.size());
        while (!piece.empty()) {
            piece = piece.subspan(decoder.push(piece));
            while (decoder.has_frame()) {
                const auto payload = decoder.payload();
                out.frames.push_back({decoder.header().sequence, Bytes(payload.begin(), payload.end())});
                decoder.pop();
            }
        }
    }
    out.noise = decoder.noise_bytes();
    out.damaged = decoder.damaged_frames();
    out.pending = decoder.pending();
    return out;
}

class Frame : public testing::TestWithParam<usize> {};
INSTANTIATE_TEST_SUITE_P(Pieces, Frame, testing::Values(1, 2, 3, 7, 23, 24, 25, 4096, 1 << 20));

const Seen one{1, bytes_of("one")};
const Seen two{2, bytes_of("two of them")};

TEST(Crc32, is_that_of_ieee_802_3) {
    EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf4'3926u);
    EXPECT_EQ(crc32(bytes_of("6789"), crc32(bytes_of("12345"))), 0xcbf4'3926u);
    EXPECT_EQ(crc32({}), 0u);
}

TEST_P(Frame, comes_through) {
    const Outcome out = decode(frame(1, one.payload) + frame(2, two.payload), GetParam());
    EXPECT_EQ(out.frames, (std::vector{one, two}));
    EXPECT_EQ(out.noise, 0u);
    EXPECT_FALSE(out.pending);
}

TEST_P(Frame, may_be_empty_or_as_large_as_the_storage) {
    const Bytes large(limit, 0x52);
    const Outcome out = decode(frame(1, {}) + frame(2, large), GetParam());
    EXPECT_EQ(out.frames, (std::vector<Seen>{{1, {}}, {2, large}}));
}

TEST_P(Frame, comes_through_noise_of_which_every_byte_is_counted) {
    const Bytes noise = bytes_of("Bochs x86 Emulator 2.7\r\n");
    const Outcome out =
        decode(noise + frame(1, one.payload) + noise + frame(2, two.payload) + noise, GetParam());
    EXPECT_EQ(out.frames, (std::vector{one, two}));
    EXPECT_EQ(out.noise, 3 * noise.size());
    EXPECT_EQ(out.damaged, 0u);
}

TEST_P(Frame, comes_through_false_starts) {
    const Bytes magic = bytes_of("RFHv");
    for (const Bytes& start : {bytes_of("R"), bytes_of("RF"), bytes_of("RFH"), bytes_of("RRFRFHRFH"), magic,
                               magic + magic, magic + bytes_of("a header's worth of other bytes")}) {
        const Outcome out = decode(start + frame(1, one.payload), GetParam());
        EXPECT_EQ(out.frames, std::vector{one});
        EXPECT_EQ(out.noise, start.size());
    }
}

TEST_P(Frame, behind_a_damaged_one_is_not_lost) {
    const Bytes good = frame(2, two.payload);
    const Bytes victim = frame(1, one.payload);
    for (usize at = 0; at < victim.size(); ++at) {
        for (u8 flip : {0x01, 0x80, 0xff}) {
            Bytes damaged = victim;
            damaged[at] ^= flip;
            const Outcome out = decode(damaged + good, GetParam());
            EXPECT_EQ(out.frames, std::vector{two}) << "byte " << at;
            EXPECT_EQ(out.noise, victim.size());
            EXPECT_EQ(out.damaged, at < sizeof(FrameHeader) ? 0u : 1u);
        }
    }
}

TEST_P(Frame, inside_a_damaged_one_is_found) {
    Bytes outer = frame(1, bytes_of("before ") + frame(2, two.payload) + bytes_of(" behind"));
    outer.back() ^= 1;
    const Outcome out = decode(outer, GetParam());
    EXPECT_EQ(out.frames, std::vector{two});
    EXPECT_EQ(out.damaged, 1u);
}

TEST_P(Frame, longer_than_the_storage_is_noise) {
    const Bytes long_one = frame(1, Bytes(limit + 1, 0));
    const Outcome out = decode(long_one + frame(2, two.payload), GetParam());
    EXPECT_EQ(out.frames, std::vector{two});
    EXPECT_EQ(out.noise, long_one.size());
}

TEST(FrameDecoder, keeps_what_follows_a_frame_with_the_caller) {
    Bytes storage(sizeof(FrameHeader) + limit);
    FrameDecoder decoder{storage};
    const Bytes first = frame(1, one.payload);
    const Bytes both = first + frame(2, two.payload);
    EXPECT_EQ(decoder.push(both), first.size());
    EXPECT_TRUE(decoder.has_frame());
    EXPECT_EQ(decoder.push(both), 0u); // not before pop
}

TEST(FrameDecoder, abandons_a_frame_that_stopped_half_way) {
    Bytes storage(sizeof(FrameHeader) + limit);
    FrameDecoder decoder{storage};
    Bytes half = frame(1, Bytes(200, 0x11));
    half.resize(half.size() - 100);
    const Bytes in = half + frame(2, two.payload); // shorter than what the first still wants
    ASSERT_EQ(decoder.push(in), in.size());
    ASSERT_FALSE(decoder.has_frame());
    ASSERT_TRUE(decoder.pending());
    decoder.abandon();
    ASSERT_TRUE(decoder.has_frame());
    EXPECT_EQ(decoder.header().sequence, 2u);
    EXPECT_EQ(decoder.noise_bytes(), half.size());
}

TEST(FrameDecoder, gives_the_same_whatever_the_pieces) {
    std::mt19937 random{1};
    for (int round = 0; round < 200; ++round) {
        Bytes in;
        for (int part = 0; part < 8; ++part) {
            Bytes piece(random() % 40);
            for (u8& byte : piece) {
                byte = static_cast<u8>("RFHv\0x"[random() % 6]);
            }
            in = in + (random() % 2 != 0 ? frame(random(), piece) : piece);
            if (random() % 4 == 0 && !in.empty()) {
                in[random() % in.size()] ^= 1u << random() % 8;
            }
        }
        const Outcome whole = decode(in, in.size() + 1);
        const Outcome pieces = decode(in, 1 + random() % 30);
        EXPECT_EQ(whole.frames, pieces.frames);
        EXPECT_EQ(whole.noise, pieces.noise);
        EXPECT_EQ(whole.damaged, pieces.damaged);
    }
}

} // namespace
} // namespace refhv
