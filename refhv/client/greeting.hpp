// SPDX-License-Identifier: MIT
// A hello, taken apart.
#pragma once

#include "refhv/client/target.hpp"

namespace refhv::client {

// Of a payload whose one reply is a hello. Throws MalformedReply with what is wrong with it.
[[nodiscard]] HelloInfo read_greeting(std::span<const u8> payload);

} // namespace refhv::client
