// SPDX-License-Identifier: MIT
// The processors that ACPI lists (ACPI 6.5, sections 5.2.5 and 5.2.12), found as BIOS firmware shows them, or
// from the root pointer that a loader handed over.
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

// The MADT that the root pointer leads to: by the XSDT, whose addresses have 64 bits, where there is one.
template <class ToVirtual>
[[nodiscard]] const u8* find_madt(const u8* root, ToVirtual to_virtual) {
    constexpr u32 header = 36;
    const bool wide = root[15] >= 2 && load<u64>(root + 24) != 0;
    const u8* const list = wide ? table_at(load<u64>(root + 24), "XSDT", to_virtual)
                                : table_at(load<u32>(root + 16), "RSDT", to_virtual);
    const u32 size = list != nullptr ? load<u32>(list + 4) : 0;
    const u32 each = wide ? 8 : 4;
    const u8* madt = nullptr;
    for (u32 at = header; at + each <= size && madt == nullptr; at += each) {
        madt = table_at(wide ? load<u64>(list + at) : load<u32>(list + at), "APIC", to_virtual);
    }
    return madt;
}

// The root pointer at that address, below 4 GBytes; null if none is there.
template <class ToVirtual>
[[nodiscard]] const u8* root_at(u64 physical, ToVirtual to_virtual) {
    if (physical == 0 || physical >= (u64{1} << 32) - page_size) {
        return nullptr;
    }
    const u8* const p = to_virtual(physical);
    return __builtin_memcmp(p, "RSD PTR ", 8) == 0 && sums_to_zero(p, 20) ? p : nullptr;
}

} // namespace detail

// Writes the APIC IDs of the processors that are enabled, in ACPI's order; how many. 0: no such table.
// `to_virtual` makes a const u8* of a physical address below 4 GBytes. `root_address`: of the root pointer;
// 0: it is looked for.
template <class ToVirtual>
[[nodiscard]] usize find_processors(ToVirtual to_virtual, std::span<u32> ids, u64 root_address = 0) {
    using namespace detail;
    const u8* const root = root_address != 0 ? root_at(root_address, to_virtual) : find_root(to_virtual);
    constexpr u32 madt_header = 44, enabled = 1;
    const u8* const madt = root != nullptr ? find_madt(root, to_virtual) : nullptr;
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
