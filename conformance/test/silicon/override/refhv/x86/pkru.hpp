// SPDX-License-Identifier: MIT
#pragma once

#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::x86 {

[[nodiscard]] inline u32 read_pkru() {
    return silicon::machine().pkru;
}
inline void write_pkru(u32 value) {
    silicon::machine().pkru = value;
}

} // namespace refhv::x86
