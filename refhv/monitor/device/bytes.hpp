// SPDX-License-Identifier: MIT
// What devices share: registers as the bytes of a snapshot, and wide accesses to registers of one byte.
#pragma once

#include "refhv/contract/types.hpp"

#include <span>
#include <type_traits>

namespace refhv::monitor {

// Without padding, so that equal states are equal byte for byte.
template <class State>
[[nodiscard]] std::span<std::byte> bytes_of(State& state) {
    static_assert(std::is_trivially_copyable_v<State> && std::has_unique_object_representations_v<State>);
    return std::as_writable_bytes(std::span(&state, 1));
}

// An ISA bus hands a wide access to a device of eight bits byte by byte, lowest address first.
template <class One>
[[nodiscard]] u64 read_bytes(u64 offset, unsigned size, One&& one) {
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; i++) {
        value |= u64{static_cast<u8>(one(offset + i))} << (8 * i);
    }
    return value;
}

template <class One>
void write_bytes(u64 offset, unsigned size, u64 value, One&& one) {
    for (unsigned i = 0; i < size && i < 8; i++) {
        one(offset + i, static_cast<u8>(value >> (8 * i)));
    }
}

} // namespace refhv::monitor
