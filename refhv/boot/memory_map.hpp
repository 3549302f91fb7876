// SPDX-License-Identifier: MIT
// The memory that Multiboot reports (Multiboot Specification 0.6.96, section 3.3).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::boot {

inline constexpr u32 multiboot_magic = 0x2bad'b002;

struct MultibootInfo {
    u32 flags;
    u32 mem_lower, mem_upper; // KBytes; flag 0
    u32 boot_device, cmdline, mods_count, mods_addr, syms[4];
    u32 mmap_length, mmap_addr; // flag 6
};
static_assert(offsetof(MultibootInfo, mmap_length) == 44);

struct [[gnu::packed]] MultibootMapEntry {
    u32 size; // of what follows
    u64 base, length;
    u32 type; // 1: available
};
static_assert(sizeof(MultibootMapEntry) == 24);

struct Range {
    u64 begin, end;
    [[nodiscard]] u64 bytes() const { return end > begin ? end - begin : 0; }
};

// The largest available range, page-aligned, inside [floor, ceiling).
template <class ToVirtual>
[[nodiscard]] Range largest_range(const MultibootInfo& info, u64 floor, u64 ceiling, ToVirtual to_virtual) {
    Range best{0, 0};
    const auto offer = [&](u64 base, u64 length) {
        Range r{base, base + length};
        r.begin = (r.begin < floor ? floor : r.begin) + page_size - 1;
        r.begin &= ~(page_size - 1);
        r.end = (r.end > ceiling ? ceiling : r.end) & ~(page_size - 1);
        best = r.bytes() > best.bytes() ? r : best;
    };
    if ((info.flags & 1u << 6) != 0) {
        for (u32 at = 0; at + sizeof(MultibootMapEntry) <= info.mmap_length;) {
            MultibootMapEntry e;
            __builtin_memcpy(&e, to_virtual(info.mmap_addr + u64{at}), sizeof e);
            if (e.type == 1 && e.base < ceiling) {
                offer(e.base, e.length < ceiling ? e.length : ceiling);
            }
            at += e.size + 4;
        }
    } else if ((info.flags & 1) != 0) {
        offer(0x10'0000, u64{info.mem_upper} * 1024);
    }
    return best;
}

} // namespace refhv::boot
