// SPDX-License-Identifier: MIT
// The few instructions that a CPU without decode assists leaves to the hypervisor: MOV to and from control
// registers and INVLPG, in 64-bit mode (SDM 2A chapter 2; APM 3 chapter 1).
#pragma once

#include "refhv/abi.hpp"

#include <span>

namespace refhv::x86 {

struct Decoded {
    enum class Kind : u8 {
        unknown,
        mov_to_cr,
        mov_from_cr,
        clts,
        invlpg,
    };
    Kind kind = Kind::unknown;
    u8 length = 0;
    u8 gpr = 0;            // MOV CR
    u8 cr = 0;             // MOV CR
    u64 address = 0;       // INVLPG: effective address, segment base excluded
    u8 segment_prefix = 0; // 0x64 FS, 0x65 GS, 0 none
};

namespace detail {

// The memory operand that ModRM at bytes[at] begins. false: it ends outside the bytes.
[[nodiscard]] inline bool memory_operand(std::span<const u8> bytes, usize at, u8 rex, bool address32,
                                         const u64* gpr, u64 rip, Decoded& d) {
    const u8 modrm = bytes[at++];
    const u8 mod = modrm >> 6, rm = modrm & 7;
    u64 address = 0;
    bool has_disp32 = mod == 2;
    bool rip_relative = false;
    if (rm == 4) {
        if (at >= bytes.size()) {
            return false;
        }
        const u8 sib = bytes[at++];
        const u8 index = (sib >> 3 & 7) | ((rex & 2) != 0 ? 8 : 0),
                 base = (sib & 7) | ((rex & 1) != 0 ? 8 : 0);
        address += index != 4 ? gpr[index] << (sib >> 6) : 0;
        if ((sib & 7) == 5 && mod == 0) {
            has_disp32 = true;
        } else {
            address += gpr[base];
        }
    } else if (rm == 5 && mod == 0) {
        has_disp32 = rip_relative = true;
    } else {
        address += gpr[rm | ((rex & 1) != 0 ? 8 : 0)];
    }
    const usize disp = has_disp32 ? 4 : mod == 1 ? 1 : 0;
    if (at + disp > bytes.size()) {
        return false;
    }
    if (disp == 1) {
        address += static_cast<u64>(static_cast<i64>(static_cast<signed char>(bytes[at])));
    } else if (disp == 4) {
        std::int32_t v;
        __builtin_memcpy(&v, &bytes[at], 4);
        address += static_cast<u64>(static_cast<i64>(v));
    }
    d.length = static_cast<u8>(at + disp);
    address += rip_relative ? rip + d.length : 0;
    d.address = address32 ? static_cast<u32>(address) : address;
    return true;
}

} // namespace detail

// `bytes`: what stands at rip, 15 of it or as much as is mapped. Registers in encoding order.
[[nodiscard]] inline Decoded decode(std::span<const u8> bytes, const u64* gpr, u64 rip) {
    Decoded d;
    usize at = 0;
    u8 rex = 0;
    bool address32 = false;
    for (; at < bytes.size(); ++at) {
        const u8 b = bytes[at];
        if (b == 0x67) {
            address32 = true;
        } else if (b == 0x64 || b == 0x65) {
            d.segment_prefix = b;
        } else if (b != 0x66 && b != 0xf0 && b != 0xf2 && b != 0xf3 && b != 0x26 && b != 0x2e && b != 0x36 &&
                   b != 0x3e) {
            break;
        }
    }
    if (at < bytes.size() && (bytes[at] & 0xf0) == 0x40) {
        rex = bytes[at++];
    }
    if (at + 1 >= bytes.size() || bytes[at] != 0x0f) {
        return d;
    }
    const u8 opcode = bytes[at + 1];
    at += 2;
    if (opcode == 0x06) {
        d.kind = Decoded::Kind::clts;
        d.length = static_cast<u8>(at);
    } else if ((opcode == 0x20 || opcode == 0x22) && at < bytes.size()) {
        const u8 modrm = bytes[at++];
        d.kind = opcode == 0x22 ? Decoded::Kind::mov_to_cr : Decoded::Kind::mov_from_cr;
        d.cr = (modrm >> 3 & 7) | ((rex & 4) != 0 ? 8 : 0);
        d.gpr = (modrm & 7) | ((rex & 1) != 0 ? 8 : 0);
        d.length = static_cast<u8>(at);
    } else if (opcode == 0x01 && at < bytes.size() && (bytes[at] >> 3 & 7) == 7 && bytes[at] >> 6 != 3 &&
               detail::memory_operand(bytes, at, rex, address32, gpr, rip, d)) {
        d.kind = Decoded::Kind::invlpg;
    }
    return d;
}

} // namespace refhv::x86
