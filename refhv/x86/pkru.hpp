// SPDX-License-Identifier: MIT
// PKRU, which RDPKRU and WRPKRU reach only while CR4.PKE is 1 (SDM 2B). No world switch carries it.
#pragma once

#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::x86 {

namespace detail {

// Where the host does not use keys, they are on just for the instruction.
template <class F>
void with_keys(F f) {
    const u64 cr4 = read_cr4();
    const bool on = (cr4 & cr4::pke) != 0;
    if (!on) {
        write_cr4(cr4 | cr4::pke);
    }
    f();
    if (!on) {
        write_cr4(cr4);
    }
}

} // namespace detail

// The CPU must have protection keys.
[[nodiscard]] inline u32 read_pkru() {
    u32 value = 0;
    detail::with_keys([&] {
        u32 zero;
        asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(value), "=d"(zero) : "c"(0)); // RDPKRU
    });
    return value;
}

inline void write_pkru(u32 value) {
    detail::with_keys([&] {
        asm volatile(".byte 0x0f, 0x01, 0xef" ::"a"(value), "c"(0), "d"(0) : "memory"); // WRPKRU
    });
}

} // namespace refhv::x86
