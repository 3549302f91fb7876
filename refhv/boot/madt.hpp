// SPDX-License-Identifier: MIT
// The processors that ACPI lists (ACPI 6.5, section 5.2.12).
#pragma once

#include "refhv/boot/acpi.hpp"

#include <span>

namespace refhv::boot {

// Writes the APIC IDs of the processors that are enabled, in ACPI's order; how many. 0: no such table.
// `root`: ACPI's root pointer; null: none was found.
template <class ToVirtual>
[[nodiscard]] usize find_processors(const u8* root, ToVirtual to_virtual, std::span<u32> ids) {
    using acpi::load;
    constexpr u32 madt_header = 44, enabled = 1;
    const u8* const madt = acpi::find_table(root, "APIC", to_virtual);
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
