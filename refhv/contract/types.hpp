// SPDX-License-Identifier: MIT
// The integer names that every layer uses. Freestanding.
#pragma once

#include <cstddef>
#include <cstdint>

namespace refhv {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;
using usize = std::size_t;

inline constexpr u64 page_size = 4096;

} // namespace refhv
