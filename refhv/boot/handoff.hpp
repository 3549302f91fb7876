// SPDX-License-Identifier: MIT
// What a loader hands over: memory, ACPI's root pointer, the command line.
#pragma once

#include "refhv/boot/acpi.hpp"
#include "refhv/boot/memory_map.hpp"

#include <string_view>

namespace refhv::boot {

struct Handoff {
    bool known = false;    // by one of the three ways
    Range memory{}, low{}; // above the image and below devices; below 640 KBytes, without page 0
    std::string_view line; // where the loader has put it
    u64 root_address = 0;  // of ACPI's root pointer; 0: not said
    u8 root_copy[36] = {}; // of it, if the loader gives a copy: the signature is there or not

    // The root pointer; where the loader says nothing of it, as BIOS firmware shows it. Null: none.
    template <class ToVirtual>
    [[nodiscard]] const u8* root(ToVirtual to_virtual) const {
        if (root_copy[0] != 0) {
            return acpi::is_root(root_copy) ? root_copy : nullptr;
        }
        return root_address != 0 ? acpi::root_at(root_address, to_virtual) : acpi::find_root(to_virtual);
    }
};

inline constexpr u64 most_of_a_line = 4096;

template <class ToVirtual>
[[nodiscard]] std::string_view line_at(u64 physical, ToVirtual to_virtual) {
    if (physical == 0 || physical >= (u64{1} << 32) - most_of_a_line) {
        return {};
    }
    const u8* const text = to_virtual(physical);
    usize size = 0;
    while (size < most_of_a_line && text[size] != 0) {
        ++size;
    }
    return {reinterpret_cast<const char*>(text), size};
}

// `magic` and `info`: what the loader has in EAX and EBX. `image_end`: no memory below it is free but what
// lies under 640 KBytes.
template <class ToVirtual>
[[nodiscard]] Handoff read_handoff(u32 magic, u32 info, u64 image_end, ToVirtual to_virtual) {
    constexpr u64 direct_mapping_end = 0xfe00'0000; // above are devices
    constexpr u64 low_end = 0xa'0000;
    Handoff h;
    h.known = true;
    const auto take = [&](const auto& map, auto... how) {
        h.memory = largest_range(map, image_end, direct_mapping_end, how...);
        h.low = largest_range(map, page_size, low_end, how...);
    };
    if (magic == multiboot_magic) {
        MultibootInfo from;
        __builtin_memcpy(&from, to_virtual(info), sizeof from);
        take(from, to_virtual);
        constexpr u32 has_line = 1u << 2;
        h.line = (from.flags & has_line) != 0 ? line_at(from.command_line, to_virtual) : std::string_view{};
    } else if (magic == pvh_magic) {
        PvhInfo from;
        __builtin_memcpy(&from, to_virtual(info), sizeof from);
        take(from, to_virtual);
        h.root_address = from.rsdp;
        h.line = line_at(from.command_line, to_virtual);
    } else if (magic == multiboot2_magic) {
        constexpr u32 most = 1u << 20;
        const u8* const at = to_virtual(info);
        const u32 size = acpi::load<u32>(at);
        const std::span<const u8> from(at, size < most ? size : most);
        take(from);
        std::span<const u8> root = multiboot2_tag(from, Multiboot2::acpi_2);
        if (root.size() < 20) {
            root = multiboot2_tag(from, Multiboot2::acpi_1);
        }
        if (root.size() >= 20) {
            __builtin_memcpy(h.root_copy, root.data(),
                             root.size() < sizeof h.root_copy ? root.size() : sizeof h.root_copy);
        }
        const std::span<const u8> line = multiboot2_tag(from, Multiboot2::command_line);
        h.line = {reinterpret_cast<const char*>(line.data()), line.empty() ? 0 : line.size() - 1};
    } else {
        h.known = false;
    }
    return h;
}

} // namespace refhv::boot
