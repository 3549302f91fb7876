// SPDX-License-Identifier: MIT
// Packed payloads (refhv/contract/packing.hpp): what goes in comes out, and no block leads outside.
#include "refhv/contract/packing.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <string_view>
#include <vector>

namespace refhv {
namespace {

using Bytes = std::vector<u8>;
using namespace std::string_view_literals;

Bytes bytes_of(std::string_view text) {
    return {text.begin(), text.end()};
}

// Runs of zeros, of what stood there before, and of noise, as requests have them.
Bytes payload_of(u32 seed, usize size) {
    std::mt19937 random(seed);
    Bytes out;
    while (out.size() < size) {
        const usize n = std::min<usize>(1 + random() % 300, size - out.size());
        const u32 kind = random() % 3;
        const usize from = out.empty() ? 0 : random() % out.size();
        for (usize i = 0; i < n; ++i) {
            out.push_back(kind == 0                   ? u8{0}
                          : kind == 1 && !out.empty() ? out[from + i]
                                                      : static_cast<u8>(random()));
        }
    }
    return out;
}

template <usize step>
Bytes pack(const Bytes& payload, usize room) {
    static Packer<step> packer; // one for many, as in use
    Bytes out(room, 0xee);
    out.resize(packer.pack(payload, out));
    return out;
}

usize enough(usize size) {
    return sizeof(PackedHeader) + size + size / 128 + 16;
}

TEST(Packing, what_goes_in_comes_out) {
    for (u32 seed = 0; seed < 400; ++seed) {
        const Bytes payload = payload_of(seed, seed < 200 ? seed : 200 + seed * 97);
        for (const Bytes& packed :
             {pack<1>(payload, enough(payload.size())), pack<8>(payload, enough(payload.size()))}) {
            ASSERT_FALSE(packed.empty()) << seed;
            Bytes room(payload.size() + 8, 0xcc);
            const auto back = unpack_payload(packed, std::span{room}.first(payload.size()));
            ASSERT_TRUE(back) << seed;
            ASSERT_EQ(Bytes(back->begin(), back->end()), payload) << seed;
            ASSERT_TRUE(std::all_of(room.end() - 8, room.end(), [](u8 b) { return b == 0xcc; }));
        }
    }
}

TEST(Packing, zeros_are_packed_to_next_to_nothing) {
    EXPECT_LT(pack<8>(Bytes(576), 1000).size(), 32u);
    EXPECT_LT(pack<8>(Bytes(1u << 20), 8000).size(), 4200u) << "an added byte for 255";
}

// Made by liblz4 1.9.4.
TEST(Packing, blocks_of_the_reference_library_are_read) {
    const Bytes block = bytes_of("\x6frefhv\x00\x01\x00\x14\x8f"
                                 "abcdefgh\x08\x00\x0d\xa4"
                                 "0123456789*\x00Pij\x00\x00\x00"sv);
    const Bytes due = bytes_of("refhv"sv);
    Bytes out(108);
    ASSERT_TRUE(unpack(block, out));
    EXPECT_TRUE(std::equal(due.begin(), due.end(), out.begin()));
    EXPECT_EQ(Bytes(out.begin() + 45, out.begin() + 53), bytes_of("abcdefgh"));
    EXPECT_EQ(Bytes(out.end() - 23, out.end()), bytes_of("0123456789abcdefghij\0\0\0"sv));
}

TEST(Packing, what_does_not_fit_is_not_packed) {
    const Bytes payload = payload_of(7, 5000);
    const usize size = pack<8>(payload, enough(payload.size())).size();
    for (const usize room : {usize{0}, usize{7}, usize{8}, size / 2, size - 1}) {
        EXPECT_TRUE(pack<8>(payload, room).empty()) << room;
    }
    EXPECT_EQ(pack<8>(payload, size).size(), size);
}

// Cut anywhere, changed anywhere, of another size: refused, or something else of the right size; what stands
// behind the room is left alone (and the sanitizers watch the rest in the fuzz target).
TEST(Packing, damaged_payloads_stay_inside) {
    const Bytes payload = payload_of(3, 700);
    const Bytes packed = pack<1>(payload, enough(payload.size()));
    const auto room_is_kept = [](const Bytes& in, usize size) {
        Bytes room(size + 64, 0xcc);
        const auto back = unpack_payload(in, std::span{room}.first(size));
        EXPECT_TRUE(!back || back->size() <= size);
        return std::all_of(room.end() - 64, room.end(), [](u8 b) { return b == 0xcc; });
    };
    Bytes room(payload.size());
    for (usize n = 0; n < packed.size(); ++n) {
        EXPECT_FALSE(unpack_payload(std::span{packed}.first(n), room)) << "cut to " << n;
        for (const u8 change : {0x01, 0x0f, 0x80, 0xff}) {
            Bytes changed = packed;
            changed[n] ^= change;
            EXPECT_TRUE(room_is_kept(changed, payload.size())) << n;
        }
    }
    EXPECT_FALSE(unpack_payload(packed, std::span{room}.first(payload.size() - 1)));
    Bytes longer = packed;
    longer[0] += 1; // PackedHeader::size
    room.resize(payload.size() + 1);
    EXPECT_FALSE(unpack_payload(longer, room));
}

} // namespace
} // namespace refhv
