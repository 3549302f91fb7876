// SPDX-License-Identifier: MIT
// The processors that ACPI lists (ACPI 6.5, sections 5.2.5 and 5.2.12), found as BIOS firmware shows them.
#pragma once

#include "refhv/contract/types.hpp"

#include <span>

namespace refhv::boot {

namespace detail {

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

// The root pointer: on a 16-byte boundary of the first KByte of the EBDA or of E0000H to FFFFFH.
template <class ToVirtual>
[[nodiscard]] const u8* find_root(ToVirtual to_virtual) {
    const auto in = [&](u64 begin, u64 size) -> const u8* {
        for (u64 at = begin; at < begin + size; at += 16) {
            const u8* const p = to_virtual(at);
            if (__builtin_memcmp(p, "RSD PTR ", 8) == 0 && sums_to_zero(p, 20)) {
                return p;
            }
        }
        return nullptr;
    };
    const u64 ebda = u64{load<u16>(to_virtual(0x40e))} * 16;
    const u8* const there = ebda >= 0x400 && ebda < 0xa'0000 ? in(ebda, 1024) : nullptr;
    return there != nullptr ? there : in(0xe'0000, 0x2'0000);
}

} // namespace detail

// Writes the APIC IDs of the processors that are enabled, in ACPI's order; how many. 0: no such table.
// `to_virtual` makes a const u8* of a physical address below 4 GBytes.
template <class ToVirtual>
[[nodiscard]] usize find_processors(ToVirtual to_virtual, std::span<u32> ids) {
    using namespace detail;
    const u8* const root = find_root(to_virtual);
    const u8* const rsdt = root != nullptr ? table_at(load<u32>(root + 16), "RSDT", to_virtual) : nullptr;
    if (rsdt == nullptr) {
        return 0;
    }
    constexpr u32 header = 36, madt_header = 44, enabled = 1;
    const u8* madt = nullptr;
    for (u32 at = header; at + 4 <= load<u32>(rsdt + 4) && madt == nullptr; at += 4) {
        madt = table_at(load<u32>(rsdt + at), "APIC", to_virtual);
    }
    usize count = 0;
    const auto add = [&](u32 id, u32 flags) {
        if ((flags & enabled) != 0 && count < ids.size()) {
            ids[count++] = id;
        }
    };
    const u32 size = madt != nullptr ? load<u32>(madt + 4) : 0;
    for (u32 at = madt_header; at + 2 <= size;) {
        const u8* const entry = madt + at;
        const u32 length = entry[1];
        if (length < 2 || at + length > size) {
            break;
        }
        if (entry[0] == 0 && length >= 8) { // processor local APIC
            add(entry[3], load<u32>(entry + 4));
        } else if (entry[0] == 9 && length >= 16) { // processor local x2APIC
            add(load<u32>(entry + 4), load<u32>(entry + 8));
        }
        at += length;
    }
    return count;
}

} // namespace refhv::boot
