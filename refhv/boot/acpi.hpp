// SPDX-License-Identifier: MIT
// ACPI's tables (ACPI 6.5, section 5.2.5 to 5.2.8), found as BIOS firmware shows them, or from the root
// pointer that a loader handed over. `to_virtual` makes a const u8* of a physical address below 4 GBytes,
// here and below.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::boot::acpi {

template <class T>
[[nodiscard]] T load(const u8* at) {
    T value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
}

[[nodiscard]] inline bool sums_to_zero(const u8* at, u32 size) {
    u8 sum = 0;
    for (u32 i = 0; i < size; ++i) {
        sum = static_cast<u8>(sum + at[i]);
    }
    return sum == 0;
}

// A table with its header whole and its checksum right; null otherwise.
template <class ToVirtual>
[[nodiscard]] const u8* table_at(u64 physical, const char (&signature)[5], ToVirtual to_virtual) {
    constexpr u64 end = u64{1} << 32;
    constexpr u32 header = 36, largest = 1u << 20;
    if (physical == 0 || physical >= end - largest) {
        return nullptr;
    }
    const u8* const at = to_virtual(physical);
    const u32 size = load<u32>(at + 4);
    const bool ours = __builtin_memcmp(at, signature, 4) == 0;
    return ours && size >= header && size <= largest && sums_to_zero(at, size) ? at : nullptr;
}

// The signature, and the checksum of the part that every version has.
[[nodiscard]] inline bool is_root(const u8* at) {
    return __builtin_memcmp(at, "RSD PTR ", 8) == 0 && sums_to_zero(at, 20);
}

// The root pointer: on a 16-byte boundary of the first KByte of the EBDA or of E0000H to FFFFFH.
template <class ToVirtual>
[[nodiscard]] const u8* find_root(ToVirtual to_virtual) {
    const auto in = [&](u64 begin, u64 size) -> const u8* {
        for (u64 at = begin; at < begin + size; at += 16) {
            const u8* const p = to_virtual(at);
            if (is_root(p)) {
                return p;
            }
        }
        return nullptr;
    };
    const u64 ebda = u64{load<u16>(to_virtual(0x40e))} * 16;
    const u8* const there = ebda >= 0x400 && ebda < 0xa'0000 ? in(ebda, 1024) : nullptr;
    return there != nullptr ? there : in(0xe'0000, 0x2'0000);
}

// The first table of that signature that the root pointer leads to: by the XSDT, whose addresses have 64
// bits, where there is one. Null if there is none.
template <class ToVirtual>
[[nodiscard]] const u8* find_table(const u8* root, const char (&signature)[5], ToVirtual to_virtual) {
    constexpr u32 header = 36;
    if (root == nullptr) {
        return nullptr;
    }
    const bool wide = root[15] >= 2 && load<u64>(root + 24) != 0;
    const u8* const list = wide ? table_at(load<u64>(root + 24), "XSDT", to_virtual)
                                : table_at(load<u32>(root + 16), "RSDT", to_virtual);
    const u32 size = list != nullptr ? load<u32>(list + 4) : 0;
    const u32 each = wide ? 8 : 4;
    const u8* found = nullptr;
    for (u32 at = header; at + each <= size && found == nullptr; at += each) {
        found = table_at(wide ? load<u64>(list + at) : load<u32>(list + at), signature, to_virtual);
    }
    return found;
}

// The root pointer at that address, below 4 GBytes; null if none is there.
template <class ToVirtual>
[[nodiscard]] const u8* root_at(u64 physical, ToVirtual to_virtual) {
    if (physical == 0 || physical >= (u64{1} << 32) - page_size) {
        return nullptr;
    }
    const u8* const p = to_virtual(physical);
    return is_root(p) ? p : nullptr;
}

} // namespace refhv::boot::acpi
