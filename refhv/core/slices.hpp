// SPDX-License-Identifier: MIT
// Work that a request asks for outside runs, in slices: between two of them the host may have the CPU.
#pragma once

#include "refhv/core/host_window.hpp"

namespace refhv::slices {

inline constexpr u64 bytes = u64{1} << 16; // of memory, written or read
inline constexpr u64 entries = 1024;       // of tables

// Of the CPU that serves requests; the only one that works in slices.
inline HostWindow window;

inline void let_host_run() {
    platform::let_host_run();
    window.close();
}

// f(first, count) until all have had their turn, no more than `most` at a time.
template <class F>
void each(u64 all, u64 most, F f) {
    for (u64 first = 0; first < all; first += most) {
        if (first != 0) {
            let_host_run();
        }
        f(first, all - first < most ? all - first : most);
    }
}

inline void copy(u8* to, const u8* from, u64 size) {
    each(size, bytes, [&](u64 at, u64 count) { __builtin_memcpy(to + at, from + at, count); });
}

} // namespace refhv::slices
