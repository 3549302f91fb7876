// SPDX-License-Identifier: MIT
// Structures of the contract out of bytes and into bytes.
#pragma once

#include "refhv/contract/types.hpp"

#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

namespace refhv::client::self {

// Nothing if there are not enough.
template <class T>
[[nodiscard]] std::optional<T> read(std::span<const u8> bytes) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes.size() < sizeof(T)) {
        return std::nullopt;
    }
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

template <class T>
void append(std::vector<u8>& bytes, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* raw = reinterpret_cast<const u8*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof value);
}

} // namespace refhv::client::self
