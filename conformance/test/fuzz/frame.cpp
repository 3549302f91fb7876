// SPDX-License-Identifier: MIT
// The frame decoder: whatever the bytes and however they are cut, the same frames come out, every byte is a
// frame's or noise, and a good frame behind the lot is found.
#include "refhv/contract/frame.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace refhv {
namespace {

constexpr usize limit = 512;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

struct Decoded {
    std::vector<std::vector<u8>> frames; // header and payload
    u64 framed = 0;
};

void take_frames(FrameDecoder& decoder, Decoded& out) {
    while (decoder.has_frame()) {
        const FrameHeader header = decoder.header();
        const auto payload = decoder.payload();
        require(header.magic == frame_magic && header.header_crc == header_crc(header));
        require(payload.size() == header.length && crc32(payload) == header.payload_crc);
        std::vector<u8> frame(sizeof header + payload.size());
        std::memcpy(frame.data(), &header, sizeof header);
        std::copy(payload.begin(), payload.end(), frame.begin() + sizeof header);
        out.framed += frame.size();
        out.frames.push_back(std::move(frame));
        decoder.pop();
    }
}

void feed(FrameDecoder& decoder, std::span<const u8> in, Decoded& out) {
    while (!in.empty()) {
        in = in.subspan(decoder.push(in));
        take_frames(decoder, out);
    }
}

// Turns the fuzzer's bytes into a stream in which frames occur. A byte from 0xe0 begins one with as many
// payload bytes as the next byte says: good from 0xf0, with a byte damaged from 0xf8, cut from 0xe0.
std::vector<u8> stream(std::span<const u8> in) {
    std::vector<u8> out;
    for (usize i = 0; i < in.size();) {
        const u8 byte = in[i++];
        if (byte < 0xe0 || i == in.size()) {
            out.push_back(byte);
            continue;
        }
        const auto payload = in.subspan(i, std::min<usize>(in[i], in.size() - i));
        i += payload.size() + 1;
        FrameHeader header = make_frame_header(1, FrameKind::reply, static_cast<u32>(i), payload);
        const bool cut = byte < 0xf0;
        if (cut) { // what follows may happen to be the very bytes that are missing: such a frame must not fit
            header.payload_crc ^= 1;
            header.header_crc = header_crc(header);
        }
        std::vector<u8> frame(sizeof header + payload.size());
        std::memcpy(frame.data(), &header, sizeof header);
        std::copy(payload.begin(), payload.end(), frame.begin() + sizeof header);
        if (byte >= 0xf8) {
            frame[(byte - 0xf8u) * 7 % frame.size()] ^= byte;
        } else if (cut) {
            frame.resize(1 + (byte - 0xe0u) * 5 % frame.size());
        }
        out.insert(out.end(), frame.begin(), frame.end());
    }
    return out;
}

} // namespace
} // namespace refhv

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    using namespace refhv;
    const std::vector<u8> in = stream({data, size});
    std::vector<u8> storage(sizeof(FrameHeader) + limit);
    std::vector<u8> storage_in_pieces = storage;

    FrameDecoder whole{storage};
    Decoded out;
    feed(whole, in, out);
    FrameDecoder pieces{storage_in_pieces};
    Decoded out_in_pieces;
    for (usize i = 0; i < in.size();) {
        const usize step = std::min<usize>(1 + in[i] % 31, in.size() - i);
        feed(pieces, std::span{in}.subspan(i, step), out_in_pieces);
        i += step;
    }
    require(out.frames == out_in_pieces.frames);
    require(whole.noise_bytes() == pieces.noise_bytes() && whole.damaged_frames() == pieces.damaged_frames());
    require(whole.noise_bytes() + out.framed <= in.size());

    const std::vector<u8> payload{'l', 'a', 's', 't'};
    const FrameHeader header = make_frame_header(1, FrameKind::reply, 0xffff'ffff, payload);
    std::vector<u8> last(sizeof header + payload.size());
    std::memcpy(last.data(), &header, sizeof header);
    std::copy(payload.begin(), payload.end(), last.begin() + sizeof header);
    feed(whole, last, out);
    while (whole.pending()) {
        whole.abandon();
        take_frames(whole, out);
    }
    require(!out.frames.empty() && out.frames.back() == last);
    require(whole.noise_bytes() + out.framed == in.size() + last.size());
    return 0;
}
