// SPDX-License-Identifier: MIT
// A guest outside long mode: protected mode with PAE or 32-bit paging, tables and segments in the arena.
// Vectors 13 and 14 lead to 16 bytes behind the beginning of its code, vector 6 to 32.
#pragma once

#include "conformance/paging/claim.hpp"

namespace refhv::front::legacy {

namespace at { // guest-physical; the arena is the claim's
constexpr u64 arena = client::layout::arena;
constexpr u64 gdt = arena, idt = arena + 0x1000, tss = arena + 0x2000, pdpt = arena + 0x3000,
              directory = arena + 0x5000, table = arena + 0x6000;
constexpr u64 parameters = REFHV_SCRATCH; // first case, end, saved ESP, page-table entry, directory entry,
                                          // what entries without R/W have besides
constexpr u64 results = client::layout::samples;
constexpr u64 page = client::layout::base; // what the address under test is mapped to
constexpr u64 address = 0x5020'0000;       // in the upper half of a 32-bit page table
} // namespace at

inline constexpr u64 p = 1, rw = 2, us = 4, a = 1u << 5, d = 1u << 6, ps = 1u << 7;
inline constexpr u64 all = p | rw | us | a | d;

[[nodiscard]] constexpr u64 gate(u64 offset) { // SDM 3A figure 6-2: 32-bit interrupt gate
    return (offset & 0xffff) | u64{0x08} << 16 | u64{0x8e00} << 32 | (offset >> 16) << 48;
}

[[nodiscard]] inline abi::Segment flat(u16 selector, u32 rights) {
    return {.base = 0, .limit = ~0u, .rights = rights, .selector = selector, .zero = {}};
}

// A guest in protected mode, all of its memory mapped one to one by large pages.
struct LegacyGuest {
    client::Guest guest;
    bool pae;
    LegacyGuest(client::GuestHost& host, abi::Mode mode, bool with_pae, bool svm)
        : guest(host, {.mode = mode, .arena_pages = 64}), pae(with_pae) {
        build_tables();
        build_segments(svm);
        const u8 ret[] = {0xc3}, ud2[] = {0x0f, 0x0b};
        for (const u64 code : {at::page, at::page + at::address % (1u << 22)}) { // of a 4-MByte page
            guest.write(code, ret);
            guest.write(code + 16, ud2);
        }
    }
    [[nodiscard]] u64 pde_slot(u64 address = at::address) const {
        return pae ? at::directory + address % (1u << 30) / (1u << 21) * 8
                   : at::directory + address / (1u << 22) * 4;
    }
    [[nodiscard]] u64 pte_slot() const {
        return pae ? at::table + at::address / page_size % 512 * 8
                   : at::table + at::address / page_size % 1024 * 4;
    }

  private:
    void build_tables() {
        if (pae) {
            u64 directory[8];
            for (u64 i = 0; i < 8; ++i) {
                directory[i] = (client::layout::base + (i << 21)) | all | ps;
            }
            guest.write(at::directory, bytes_of(directory)); // of the second GByte, as all that is used
            const u64 pdpt[4] = {0, at::directory | p, 0, 0};
            guest.write(at::pdpt, bytes_of(pdpt));
        } else {
            const u32 directory[] = {static_cast<u32>(client::layout::base | all | ps),
                                     static_cast<u32>((client::layout::base + (1u << 22)) | all | ps)};
            guest.write(at::directory + client::layout::base / (1u << 22) * 4, bytes_of(directory));
        }
    }
    void build_segments(bool svm) {
        const u64 base = at::tss;
        const u64 gdt[] = {0,
                           0x00cf'9b00'0000'ffff, // code, ring 0
                           0x00cf'9300'0000'ffff, // data, ring 0
                           0x00cf'fb00'0000'ffff, // code, ring 3
                           0x00cf'f300'0000'ffff, // data, ring 3
                           0x67 | (base & 0xff'ffff) << 16 | u64{0x8b} << 40 | (base >> 24 & 0xff) << 56};
        guest.write(at::gdt, bytes_of(gdt));
        const u64 fault = gate(client::layout::code + 16);
        for (const u64 vector : {u64{13}, u64{14}}) {
            guest.write(at::idt + 8 * vector, bytes_of(fault));
        }
        const u64 undefined = gate(client::layout::code + 32);
        guest.write(at::idt + 8 * 6, bytes_of(undefined));
        const u32 stack[] = {static_cast<u32>(client::layout::stack_top), 0x10}; // ESP0, SS0
        guest.write(at::tss + 4, bytes_of(stack));
        abi::GuestState& s = guest.state;
        s.cr3 = pae ? at::pdpt : at::directory;
        s.cr4 = pae ? 0x20 : 0x10;
        s.efer = pae ? 0x800 : 0;
        s.segment[abi::cs] = flat(0x08, 0xc09b);
        s.segment[abi::ss] = flat(0x10, 0xc093);
        for (const auto data : {abi::ds, abi::es, abi::fs, abi::gs}) {
            s.segment[data] = flat(0x23, 0xc0f3);
        }
        s.segment[abi::tr].base = at::tss;
        if (svm) { // VMRUN takes either type; QEMU 7.2 ends itself over a busy one when CPL changes
            s.segment[abi::tr].rights = 0x89;
        }
        s.gdtr = {at::gdt, sizeof gdt - 1, 0};
        s.idtr = {at::idt, 15 * 8 - 1, 0};
    }
};

} // namespace refhv::front::legacy
