// SPDX-License-Identifier: MIT
// The four functions that a compiler may call in freestanding code.
#include "refhv/contract/types.hpp"

extern "C" {

void* memcpy(void* to, const void* from, std::size_t n) {
    void* d = to;
    asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n)::"memory");
    return to;
}

void* memmove(void* to, const void* from, std::size_t n) {
    const auto t = reinterpret_cast<std::uintptr_t>(to), f = reinterpret_cast<std::uintptr_t>(from);
    if (t - f >= n) {
        return memcpy(to, from, n);
    }
    void* d = static_cast<char*>(to) + n - 1;
    const void* s = static_cast<const char*>(from) + n - 1;
    asm volatile("std\n\trep movsb\n\tcld" : "+D"(d), "+S"(s), "+c"(n)::"memory");
    return to;
}

void* memset(void* to, int value, std::size_t n) {
    void* d = to;
    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
    return to;
}

int memcmp(const void* a, const void* b, std::size_t n) {
    const auto* x = static_cast<const unsigned char*>(a);
    const auto* y = static_cast<const unsigned char*>(b);
    for (std::size_t i = 0; i < n; ++i) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}
}
