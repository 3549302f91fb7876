// SPDX-License-Identifier: MIT
// The guest of the probes: memory from physical address 0 on, one descriptor table, one IDT for each width,
// and a starting state for every mode that an x86 CPU has. Linear addresses are physical ones in every mode.
#pragma once

#include "refhv/contract/abi.hpp"

#include <array>
#include <span>
#include <string_view>
#include <vector>

namespace refhv::front::machine {

inline constexpr u64 pages = 1024; // 4 MBytes
inline constexpr u64 gdt = 0x1000;
inline constexpr u64 tss = 0x2000; // 104 bytes, the redirection bitmap, the I/O permission bitmap
inline constexpr u16 redirection_bitmap = 0x68;
inline constexpr u16 io_bitmap = 0x88;
inline constexpr u32 tss_limit = io_bitmap + 0x2000; // and the byte FFH behind it
inline constexpr u64 other_tss = 0x4800;             // of task switches
inline constexpr u64 idt32 = 0x5000;
inline constexpr u64 idt64 = 0x6000;
inline constexpr u64 directory = 0x7000; // 32-bit paging
inline constexpr u64 pae_pdpt = 0x8000;
inline constexpr u64 pae_directory = 0x9000;
inline constexpr u64 pml4 = 0xa000;
inline constexpr u64 pdpt = 0xb000;
inline constexpr u64 page_directory = 0xc000;
inline constexpr u16 real_handlers = 0x0f00; // segment; handler v is the HLT at offset 4 v
inline constexpr u64 handlers = 0x10000;     // linear; handler v is the HLT at 16 v
inline constexpr u64 code = 0x20000;         // CS.base + RIP of most probes
inline constexpr u64 stack = 0x38000;        // SS.base + RSP
inline constexpr u64 ring0_stack = 0x3c000;  // of the TSS
inline constexpr u64 data = 0x40000;
inline constexpr u64 bitmaps = 0x100000; // for I/O and MSR bitmaps
inline constexpr u64 spare = 0x200000;   // 2 MBytes

// Selectors. In real and virtual-8086 mode a segment's selector is its base / 16.
inline constexpr u16 code64 = 0x08, data32 = 0x10, code32 = 0x18, code16 = 0x20, data16 = 0x28,
                     code64_user = 0x33, data32_user = 0x3b, code32_user = 0x43, code16_user = 0x4b,
                     task = 0x50, task_gate = 0x60, other_task = 0x68, local_table = 0x70, busy_task = 0x78;

// Access rights as abi::Segment has them (SDM 3C table 25-2).
inline constexpr u32 unusable = 0x1'0000, busy_tss = 0x8b, available_tss = 0x89;

enum class Kind : u8 {
    real,         // CR0.PE = 0
    big_real,     // the same with data segments of 4 GBytes
    v86,          // RFLAGS.VM = 1, paging on
    unpaged16,    // protected mode, 16-bit code, CR0.PG = 0
    unpaged32,    // likewise, 32-bit code
    paged16,      // 32-bit paging, 16-bit code
    paged32,      // 32-bit paging
    paged32_user, // at CPL 3
    pae,          // PAE paging
    pae_user,
    compat32, // EFER.LMA = 1, 32-bit code
    compat32_user,
    compat16, // EFER.LMA = 1, 16-bit code
    long64,   // 64-bit mode
    long64_user,
    count_,
};

inline constexpr std::array<Kind, static_cast<usize>(Kind::count_)> every_kind = {
    Kind::real,     Kind::big_real,      Kind::v86,          Kind::unpaged16, Kind::unpaged32,
    Kind::paged16,  Kind::paged32,       Kind::paged32_user, Kind::pae,       Kind::pae_user,
    Kind::compat32, Kind::compat32_user, Kind::compat16,     Kind::long64,    Kind::long64_user};

[[nodiscard]] std::string_view name_of(Kind kind);
[[nodiscard]] constexpr bool is_real(Kind k) {
    return k == Kind::real || k == Kind::big_real;
}
[[nodiscard]] constexpr bool is_user(Kind k) {
    return k == Kind::v86 || k == Kind::paged32_user || k == Kind::pae_user || k == Kind::compat32_user ||
           k == Kind::long64_user;
}
[[nodiscard]] constexpr bool is_64(Kind k) {
    return k == Kind::long64 || k == Kind::long64_user;
}
[[nodiscard]] constexpr bool is_long(Kind k) {
    return k >= Kind::compat32;
}
[[nodiscard]] constexpr bool is_16(Kind k) {
    return is_real(k) || k == Kind::v86 || k == Kind::unpaged16 || k == Kind::paged16 || k == Kind::compat16;
}
[[nodiscard]] constexpr bool is_unpaged(Kind k) {
    return is_real(k) || k == Kind::unpaged16 || k == Kind::unpaged32;
}

// Where a guest of that kind starts: at `code`, interrupts off, a pattern in every register but RSP.
[[nodiscard]] abi::GuestState start(Kind kind);
// CS.base + RIP, and so on, as the CPU forms them.
[[nodiscard]] inline u64 linear_rip(const abi::GuestState& s) {
    return s.segment[abi::cs].base + s.rip;
}

struct Piece {
    u64 gpa;
    std::vector<u8> bytes;
};
// memory64[gpa + 8 i] = start + i step for i below count.
struct Fill {
    u64 gpa, start, step, count;
};
// What that memory holds.
struct Image {
    std::vector<Fill> fills;
    std::vector<Piece> pieces; // behind the fills
};
[[nodiscard]] Image image();

template <class T>
[[nodiscard]] std::vector<u8> bytes_of(const T& value) {
    const auto* p = reinterpret_cast<const u8*>(&value);
    return {p, p + sizeof value};
}

// A segment descriptor: rights as in abi::Segment.
[[nodiscard]] constexpr u64 descriptor(u32 base, u32 limit, u32 rights) {
    const u64 raw_limit = (rights & 0x8000) != 0 ? limit >> 12 : limit;
    return (raw_limit & 0xffff) | u64{base & 0xff'ffff} << 16 | u64{rights & 0xf0ff} << 40 |
           (raw_limit >> 16 & 0xf) << 48 | u64{base >> 24} << 56;
}
// A gate of 8 bytes; `type` has P, DPL and type.
[[nodiscard]] constexpr u64 gate32(u16 selector, u32 offset, u8 type) {
    return (offset & 0xffff) | u64{selector} << 16 | u64{type} << 40 | u64{offset >> 16} << 48;
}

// "0f 01 c1" as bytes.
[[nodiscard]] std::vector<u8> hex(std::string_view text);

} // namespace refhv::front::machine
