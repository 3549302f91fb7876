// SPDX-License-Identifier: MIT
// Writes a reply payload in place: headers, bodies and lists, never past the end.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/contract/status.hpp"

#include <span>

namespace refhv {

class ReplyWriter {
  public:
    explicit ReplyWriter(std::span<u8> out) : out_(out) {}

    [[nodiscard]] usize size() const { return size_; }

    void begin(abi::Op op) {
        size_ = abi::align8(size_);
        header_ = size_;
        size_ += sizeof(abi::ReplyHeader);
        op_ = op;
    }

    // Room left for the body, keeping enough for a refusal of what is still to come.
    [[nodiscard]] usize room() const {
        return out_.size() - size_ > reserve ? out_.size() - size_ - reserve : 0;
    }
    [[nodiscard]] u8* cursor() { return out_.data() + size_; }

    template <class Body>
    [[nodiscard]] bool put(const Body& body) {
        return put_bytes({reinterpret_cast<const u8*>(&body), sizeof body});
    }

    [[nodiscard]] bool put_bytes(std::span<const u8> bytes) {
        if (bytes.size() > room()) {
            return false;
        }
        __builtin_memcpy(cursor(), bytes.data(), bytes.size());
        size_ += bytes.size();
        return true;
    }

    // Counts bytes that were written at cursor().
    void claim(usize bytes) { size_ += bytes; }

    // Closes the operation; an error replaces whatever body there was by its text.
    void end(const Status& status) {
        const bool is_error = status.text != nullptr;
        if (is_error) {
            size_ = header_ + sizeof(abi::ReplyHeader);
            abi::Text text{};
            for (usize i = 0; i + 1 < sizeof text.text && status.text[i] != 0; ++i) {
                text.text[i] = status.text[i];
            }
            __builtin_memcpy(cursor(), &text, sizeof text);
            size_ += sizeof text;
        }
        const abi::ReplyHeader header{static_cast<u16>(op_), static_cast<u16>(status.outcome),
                                      static_cast<u32>(size_ - header_ - sizeof(abi::ReplyHeader))};
        __builtin_memcpy(out_.data() + header_, &header, sizeof header);
        while (size_ % 8 != 0) {
            out_[size_++] = 0;
        }
    }

    // True while another operation can at least be refused.
    [[nodiscard]] bool has_room_for_refusal() const { return out_.size() - size_ >= reserve; }

  private:
    static constexpr usize reserve = sizeof(abi::ReplyHeader) + sizeof(abi::Text) + 16;

    std::span<u8> out_;
    usize size_ = 0, header_ = 0;
    abi::Op op_{};
};

} // namespace refhv
