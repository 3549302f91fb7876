// SPDX-License-Identifier: MIT
// The few instructions that a CPU without decode assists leaves to the hypervisor: MOV to and from control
// registers, CLTS, INVLPG and INVPCID (SDM 2A chapter 2; APM 3 chapter 1).
#pragma once

#include "refhv/contract/abi.hpp"

#include <span>

namespace refhv::x86 {

enum class CodeSize : u8 {
    bits16,
    bits32,
    bits64,
};

struct Decoded {
    enum class Kind : u8 {
        unknown,
        mov_to_cr,
        mov_from_cr,
        clts,
        invlpg,
        invpcid,
    };
    Kind kind = Kind::unknown;
    u8 length = 0;
    u8 gpr = 0;           // MOV CR; INVPCID: the type's
    u8 cr = 0;            // MOV CR
    u64 address = 0;      // memory operand: effective address, segment base excluded
    u8 segment = abi::ds; // and its segment
};

namespace detail {

struct Prefixes {
    u8 rex = 0;
    bool address_size = false, operand_size = false;
    bool has_segment = false;
};

struct Cursor {
    std::span<const u8> bytes;
    usize at = 0;
    bool ended = false; // more was wanted than there is

    u8 next() {
        ended = ended || at >= bytes.size();
        return ended ? 0 : bytes[at++];
    }
    // Sign-extended, of 1, 2 or 4 bytes.
    u64 displacement(unsigned size) {
        u32 v = 0;
        for (unsigned i = 0; i < size; ++i) {
            v |= u32{next()} << (8 * i);
        }
        const unsigned shift = 64 - 8 * size;
        return size == 0 ? 0 : static_cast<u64>(static_cast<i64>(u64{v} << shift) >> shift);
    }
};

// SDM 2A table 2-1.
[[nodiscard]] inline u64 operand_16(Cursor& c, u8 modrm, const u64* gpr, bool& on_stack) {
    constexpr u8 none = 0xff;
    constexpr u8 bases[8] = {abi::rbx, abi::rbx, abi::rbp, abi::rbp, none, none, abi::rbp, abi::rbx};
    constexpr u8 indexes[8] = {abi::rsi, abi::rdi, abi::rsi, abi::rdi, abi::rsi, abi::rdi, none, none};
    const unsigned mod = modrm >> 6, rm = modrm & 7;
    const bool plain = mod == 0 && rm == 6;
    const u8 base = plain ? none : bases[rm];
    on_stack = base == abi::rbp;
    const u64 sum = (base != none ? gpr[base] : 0) + (indexes[rm] != none ? gpr[indexes[rm]] : 0);
    return static_cast<u16>(sum + c.displacement(plain || mod == 2 ? 2 : mod));
}

// SDM 2A tables 2-2 and 2-3, with REX. Relative to RIP: the caller adds what follows the instruction.
[[nodiscard]] inline u64 operand_32_64(Cursor& c, u8 modrm, u8 rex, bool code64, const u64* gpr,
                                       bool& on_stack, bool& rip_relative) {
    const unsigned mod = modrm >> 6, rm = modrm & 7;
    unsigned base = rm | ((rex & 1) != 0 ? 8 : 0);
    bool plain = mod == 0 && rm == 5;
    rip_relative = plain && code64;
    u64 address = 0;
    if (rm == 4) {
        const u8 sib = c.next();
        const unsigned index = (sib >> 3 & 7) | ((rex & 2) != 0 ? 8 : 0);
        base = (sib & 7) | ((rex & 1) != 0 ? 8 : 0);
        plain = mod == 0 && (sib & 7) == 5;
        address = index != 4 ? gpr[index] << (sib >> 6) : 0;
    }
    on_stack = !plain && (base == abi::rsp || base == abi::rbp);
    address += plain ? 0 : gpr[base];
    return address + c.displacement(plain || mod == 2 ? 4 : mod);
}

// The memory operand whose ModRM has been read.
inline void memory_operand(Cursor& c, u8 modrm, const Prefixes& p, CodeSize size, const u64* gpr, u64 rip,
                           Decoded& d) {
    const bool code64 = size == CodeSize::bits64;
    const bool is_16 = !code64 && (size == CodeSize::bits16) != p.address_size;
    bool on_stack = false, rip_relative = false;
    const u64 address = is_16 ? operand_16(c, modrm, gpr, on_stack)
                              : operand_32_64(c, modrm, p.rex, code64, gpr, on_stack, rip_relative);
    d.address = address + (rip_relative ? rip + c.at : 0);
    d.address = !code64 || p.address_size ? static_cast<u32>(d.address) : d.address;
    if (!p.has_segment) {
        d.segment = on_stack ? abi::ss : abi::ds;
    }
}

// false: an opcode comes next.
[[nodiscard]] inline bool take_prefix(u8 byte, Prefixes& p, Decoded& d) {
    constexpr u8 segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}; // ES to GS
    for (usize i = 0; i < sizeof segments; ++i) {
        if (byte == segments[i]) {
            p.has_segment = true;
            d.segment = static_cast<u8>(i);
            return true;
        }
    }
    p.address_size = p.address_size || byte == 0x67;
    p.operand_size = p.operand_size || byte == 0x66;
    return byte == 0x67 || byte == 0x66 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

} // namespace detail

// `bytes`: what stands at rip, 15 of it or as much as is mapped. Registers in encoding order.
[[nodiscard]] inline Decoded decode(std::span<const u8> bytes, const u64* gpr, u64 rip, CodeSize size) {
    using Kind = Decoded::Kind;
    Decoded d;
    detail::Prefixes p;
    detail::Cursor c{bytes};
    u8 byte = c.next();
    while (!c.ended && detail::take_prefix(byte, p, d)) {
        byte = c.next();
    }
    if (size == CodeSize::bits64 && (byte & 0xf0) == 0x40) {
        p.rex = byte;
        byte = c.next();
    }
    const u8 opcode = c.next();
    const bool is_invpcid = opcode == 0x38 && p.operand_size && c.next() == 0x82;
    if (byte != 0x0f) {
        return {};
    }
    if (opcode == 0x06) {
        d.kind = Kind::clts;
    } else {
        const u8 modrm = c.next();
        const u8 reg = static_cast<u8>((modrm >> 3 & 7) | ((p.rex & 4) != 0 ? 8 : 0));
        const bool in_memory = modrm >> 6 != 3;
        if (opcode == 0x20 || opcode == 0x22) {
            d.kind = opcode == 0x22 ? Kind::mov_to_cr : Kind::mov_from_cr;
            d.cr = reg;
            d.gpr = static_cast<u8>((modrm & 7) | ((p.rex & 1) != 0 ? 8 : 0));
        } else if (in_memory && (is_invpcid || (opcode == 0x01 && (modrm >> 3 & 7) == 7))) {
            d.kind = is_invpcid ? Kind::invpcid : Kind::invlpg;
            d.gpr = reg;
            detail::memory_operand(c, modrm, p, size, gpr, rip, d);
        }
    }
    if (c.ended || d.kind == Kind::unknown) {
        return {};
    }
    d.length = static_cast<u8>(c.at);
    return d;
}

} // namespace refhv::x86
