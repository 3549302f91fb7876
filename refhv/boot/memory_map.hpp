// SPDX-License-Identifier: MIT
// The memory that a loader reports: by Multiboot (Multiboot Specification 0.6.96, section 3.3), by Multiboot
// 2 (version 2.0, section 3.6) or by PVH (Xen, public/arch-x86/hvm/start_info.h).
#pragma once

#include "refhv/contract/types.hpp"

#include <span>

namespace refhv::boot {

inline constexpr u32 multiboot_magic = 0x2bad'b002;

struct MultibootInfo {
    u32 flags;
    u32 mem_lower, mem_upper; // KBytes; flag 0
    u32 boot_device, command_line, mods_count, mods_addr, syms[4];
    u32 mmap_length, mmap_addr; // flag 6
};
static_assert(offsetof(MultibootInfo, mmap_length) == 44);

struct [[gnu::packed]] MultibootMapEntry {
    u32 size; // of what follows
    u64 base, length;
    u32 type; // 1: available
};
static_assert(sizeof(MultibootMapEntry) == 24);

inline constexpr u32 pvh_magic = 0x336e'c578; // hvm_start_info's own

struct PvhInfo { // hvm_start_info, version 1 and later
    u32 magic, version, flags, module_count;
    u64 modules, command_line;
    u64 rsdp;
    u64 map;
    u32 map_entries, zero;
};
static_assert(sizeof(PvhInfo) == 56 && offsetof(PvhInfo, rsdp) == 32);

struct PvhMapEntry {
    u64 base, length;
    u32 type; // 1: available
    u32 zero;
};
static_assert(sizeof(PvhMapEntry) == 24);

inline constexpr u32 multiboot2_magic = 0x36d7'6289;

struct Multiboot2Tag {
    u32 type, size; // size: with this header; the next tag is at the next multiple of 8
};

enum class Multiboot2 : u32 { // tag types
    end = 0,
    command_line = 1,
    memory_map = 6,
    acpi_1 = 14, // a copy of the root pointer
    acpi_2 = 15,
};

struct Multiboot2Map { // behind its tag's header, before its entries
    u32 entry_size, entry_version;
};

struct Multiboot2MapEntry {
    u64 base, length;
    u32 type; // 1: available
    u32 zero;
};
static_assert(sizeof(Multiboot2MapEntry) == 24);

// What stands behind the header of the first tag of that type; empty if there is none. `info` is the whole
// information, total size and reserved word included.
[[nodiscard]] inline std::span<const u8> multiboot2_tag(std::span<const u8> info, Multiboot2 type) {
    for (usize at = 8; at + sizeof(Multiboot2Tag) <= info.size();) {
        Multiboot2Tag tag;
        __builtin_memcpy(&tag, info.data() + at, sizeof tag);
        if (tag.size < sizeof tag || tag.size > info.size() - at ||
            tag.type == static_cast<u32>(Multiboot2::end)) {
            break;
        }
        if (tag.type == static_cast<u32>(type)) {
            return info.subspan(at + sizeof tag, tag.size - sizeof tag);
        }
        at += (usize{tag.size} + 7) & ~usize{7};
    }
    return {};
}

struct Range {
    u64 begin, end;
    [[nodiscard]] u64 bytes() const { return end > begin ? end - begin : 0; }
};

// Of the ranges that it is offered the largest, page-aligned, inside [floor, ceiling).
class Largest {
  public:
    Largest(u64 floor, u64 ceiling) : floor_(floor), ceiling_(ceiling) {}

    void offer(u64 base, u64 length) {
        if (base >= ceiling_) {
            return;
        }
        Range r{base, base + (length < ceiling_ ? length : ceiling_)};
        r.begin = (r.begin < floor_ ? floor_ : r.begin) + page_size - 1;
        r.begin &= ~(page_size - 1);
        r.end = (r.end > ceiling_ ? ceiling_ : r.end) & ~(page_size - 1);
        best_ = r.bytes() > best_.bytes() ? r : best_;
    }
    [[nodiscard]] Range get() const { return best_; }

  private:
    u64 floor_, ceiling_;
    Range best_{0, 0};
};

// The largest available range, page-aligned, inside [floor, ceiling). `to_virtual` makes a const u8* of a
// physical address below 4 GBytes.
template <class ToVirtual>
[[nodiscard]] Range largest_range(const MultibootInfo& info, u64 floor, u64 ceiling, ToVirtual to_virtual) {
    Largest best{floor, ceiling};
    if ((info.flags & 1u << 6) != 0) {
        for (u32 at = 0; at + sizeof(MultibootMapEntry) <= info.mmap_length;) {
            MultibootMapEntry e;
            __builtin_memcpy(&e, to_virtual(info.mmap_addr + u64{at}), sizeof e);
            if (e.type == 1) {
                best.offer(e.base, e.length);
            }
            at += e.size + 4;
        }
    } else if ((info.flags & 1) != 0) {
        best.offer(0x10'0000, u64{info.mem_upper} * 1024);
    }
    return best.get();
}

template <class ToVirtual>
[[nodiscard]] Range largest_range(const PvhInfo& info, u64 floor, u64 ceiling, ToVirtual to_virtual) {
    constexpr u64 reach = u64{1} << 32;
    constexpr u32 most_entries = 4096; // a loader that reports more is not believed
    Largest best{floor, ceiling};
    if (info.version == 0 || info.map >= reach || info.map_entries > most_entries ||
        info.map_entries * sizeof(PvhMapEntry) > reach - info.map) {
        return best.get();
    }
    for (u32 i = 0; i < info.map_entries; ++i) {
        PvhMapEntry e;
        __builtin_memcpy(&e, to_virtual(info.map + i * sizeof e), sizeof e);
        if (e.type == 1) {
            best.offer(e.base, e.length);
        }
    }
    return best.get();
}

// Of Multiboot 2's information.
[[nodiscard]] inline Range largest_range(std::span<const u8> info, u64 floor, u64 ceiling) {
    Largest best{floor, ceiling};
    const std::span<const u8> tag = multiboot2_tag(info, Multiboot2::memory_map);
    Multiboot2Map map{};
    if (tag.size() < sizeof map) {
        return best.get();
    }
    __builtin_memcpy(&map, tag.data(), sizeof map);
    if (map.entry_size < sizeof(Multiboot2MapEntry)) {
        return best.get();
    }
    for (usize at = sizeof map; at + map.entry_size <= tag.size(); at += map.entry_size) {
        Multiboot2MapEntry e;
        __builtin_memcpy(&e, tag.data() + at, sizeof e);
        if (e.type == 1) {
            best.offer(e.base, e.length);
        }
    }
    return best.get();
}

} // namespace refhv::boot
