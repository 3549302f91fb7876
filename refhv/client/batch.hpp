// SPDX-License-Identifier: MIT
// Writes request payloads and reads reply payloads.
#pragma once

#include "refhv/contract/abi.hpp"

#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace refhv::client {

// The reply does not have the form that abi.hpp gives it.
struct MalformedReply : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Batch {
  public:
    // Appends an operation: its body, and data where it may have any, are of the form that its row says.
    template <abi::Op op>
    Batch& add(const typename abi::OperationOf<op>::Body& body) {
        return add(op, body);
    }
    template <abi::Op op>
    requires(abi::OperationOf<op>::has_data) Batch& add(
        const typename abi::OperationOf<op>::Body& body,
        std::span<const typename abi::OperationOf<op>::Data> data) {
        return add(op, body, {reinterpret_cast<const u8*>(data.data()), data.size_bytes()});
    }
    // Any body and data, for those who want to see them refused.
    template <class Body>
    Batch& add(abi::Op op, const Body& body, std::span<const u8> data = {}) {
        static_assert(std::is_trivially_copyable_v<Body>);
        return add_raw(op, {reinterpret_cast<const u8*>(&body), sizeof body}, data);
    }

    Batch& add_raw(abi::Op op, std::span<const u8> body, std::span<const u8> data);

    // Appends the operation whose header stands at `at` in the payload again, with these words changed.
    Batch& again(usize at, std::span<const abi::Patch> patches);

    [[nodiscard]] std::span<const u8> payload() const { return bytes_; }
    [[nodiscard]] usize operations() const { return operations_; }

  private:
    std::vector<u8> bytes_;
    usize operations_ = 0;
};

struct Reply {
    abi::Op op{};
    abi::Outcome outcome{};
    std::span<const u8> body; // into the payload that was parsed

    // The fixed part of the body. Throws MalformedReply if the body is shorter.
    template <class Body>
    [[nodiscard]] Body as() const {
        static_assert(std::is_trivially_copyable_v<Body>);
        if (body.size() < sizeof(Body)) {
            throw MalformedReply("reply body of " + std::to_string(body.size()) + " bytes where " +
                                 std::to_string(sizeof(Body)) + " are due");
        }
        Body out;
        __builtin_memcpy(&out, body.data(), sizeof out);
        return out;
    }

    // `count` elements behind the fixed part.
    template <class Element>
    [[nodiscard]] std::vector<Element> tail(usize offset, usize count) const {
        static_assert(std::is_trivially_copyable_v<Element>);
        if (offset > body.size() || count > (body.size() - offset) / sizeof(Element)) {
            throw MalformedReply("reply body ends inside its list");
        }
        std::vector<Element> out(count);
        if (count != 0) {
            __builtin_memcpy(out.data(), body.data() + offset, count * sizeof(Element));
        }
        return out;
    }

    // What the core says about an outcome that is an error; empty for others.
    [[nodiscard]] std::string text() const;
};

// Splits a reply payload. The result points into `payload`. Throws MalformedReply.
[[nodiscard]] std::vector<Reply> parse_replies(std::span<const u8> payload);

using abi::name_of; // of operations
[[nodiscard]] const char* name_of(abi::Outcome outcome);
[[nodiscard]] const char* name_of(abi::Reason reason);
[[nodiscard]] const char* name_of(abi::Mode mode);

} // namespace refhv::client
