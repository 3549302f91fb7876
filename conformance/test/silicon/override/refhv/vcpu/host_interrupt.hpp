// SPDX-License-Identifier: MIT
// Interrupts that an exit has acknowledged: written down.
#pragma once

#include "refhv/contract/types.hpp"

#include <vector>

namespace refhv::x86 {

inline std::vector<u8> delivered_to_host;

inline void deliver_to_host(u8 vector) {
    delivered_to_host.push_back(vector);
}

} // namespace refhv::x86
