// SPDX-License-Identifier: MIT
#include "refhv/self/exit.hpp"

#include <algorithm>
#include <array>

namespace refhv::client::self {
namespace {

using abi::Reason;

enum Vector : u64 {
    breakpoint = 3,
    general_protection = 13,
    page_fault = 14,
};

constexpr usize longest_instruction = 15;

// Bytes of an instruction; past the end come zeroes, and ok() says so.
class Cursor {
  public:
    explicit Cursor(std::span<const u8> code)
        : code_(code.first(std::min(code.size(), longest_instruction))) {}
    [[nodiscard]] u8 peek() const { return position_ < code_.size() ? code_[position_] : u8{0}; }
    u8 next() {
        const u8 byte = peek();
        ++position_;
        return byte;
    }
    void skip(usize count) { position_ += count; }
    [[nodiscard]] bool ok() const { return position_ <= code_.size(); }
    [[nodiscard]] u32 position() const { return static_cast<u32>(position_); }

  private:
    std::span<const u8> code_;
    usize position_ = 0;
};

struct ModRm {
    u8 mod, reg, rm;
    explicit ModRm(u8 byte) : mod(byte >> 6), reg(byte >> 3 & 7), rm(byte & 7) {}
};

// Takes a ModRM byte with its SIB and displacement (SDM 2A 2.1.3; with 64-bit addressing).
ModRm take_modrm(Cursor& code) {
    const ModRm m{code.next()};
    if (m.mod != 3) {
        const bool sib = m.rm == 4;
        const u8 base = sib ? code.next() & 7 : m.rm;
        const bool bare_displacement = m.mod == 0 && base == 5;
        code.skip(m.mod == 1 ? 1 : m.mod == 2 || bare_displacement ? 4 : 0);
    }
    return m;
}

Reason control_register(unsigned number, bool write) {
    switch (number) {
    case 0:
        return write ? Reason::cr0_write : Reason::cr0_read;
    case 3:
        return write ? Reason::cr3_write : Reason::cr3_read;
    case 4:
        return write ? Reason::cr4_write : Reason::cr4_read;
    case 8:
        return write ? Reason::cr8_write : Reason::cr8_read;
    default:
        return Reason::cr_other;
    }
}

// 0F 01: by ModRM, one instruction for a memory operand, others for a register.
Reason group_7(const ModRm& m) {
    const u8 byte = static_cast<u8>(m.mod << 6 | m.reg << 3 | m.rm);
    if (byte == 0xd1) {
        return Reason::xsetbv;
    }
    if (byte == 0xf9) { // with CR4.TSD
        return Reason::rdtscp;
    }
    if (m.reg == 6) {
        return Reason::cr_other; // LMSW
    }
    if (m.mod == 3) {
        return Reason::none;
    }
    if (m.reg == 7) {
        return Reason::invlpg;
    }
    return m.reg <= 3 ? Reason::gdtr_idtr : Reason::none;
}

Reason two_byte(Cursor& code, bool rex_r, bool operand_size) {
    switch (const u8 opcode = code.next()) {
    case 0x00: // SLDT, STR, LLDT, LTR
        return take_modrm(code).reg <= 3 ? Reason::ldtr_tr : Reason::none;
    case 0x01:
        return group_7(take_modrm(code));
    case 0x06: // CLTS
        return Reason::cr_other;
    case 0x08:
        return Reason::invd;
    case 0x09:
        return Reason::wbinvd;
    case 0x20:
    case 0x22: // the mod field is ignored: always a register (SDM 2B "MOV—Move to/from Control Registers")
        return control_register(ModRm{code.next()}.reg + (rex_r ? 8u : 0u), opcode == 0x22);
    case 0x21:
    case 0x23:
        code.skip(1);
        return opcode == 0x23 ? Reason::dr_write : Reason::dr_read;
    case 0x30:
        return Reason::wrmsr;
    case 0x31: // with CR4.TSD
        return Reason::rdtsc;
    case 0x32:
        return Reason::rdmsr;
    case 0x33:
        return Reason::rdpmc;
    case 0x38: // 66 0F 38 82
        if (operand_size && code.next() == 0x82) {
            take_modrm(code);
            return Reason::invpcid;
        }
        return Reason::none;
    case 0xa2: // with CPUID faulting
        return Reason::cpuid;
    case 0xc7: { // XRSTORS, XSAVES
        const ModRm m = take_modrm(code);
        return m.mod != 3 && (m.reg == 3 || m.reg == 5) ? Reason::xsaves : Reason::none;
    }
    default:
        return Reason::none;
    }
}

Reason one_byte(Cursor& code, bool rex_r, bool operand_size) {
    switch (code.next()) {
    case 0x0f:
        return two_byte(code, rex_r, operand_size);
    case 0x6c:
    case 0x6d:
    case 0xec:
    case 0xed:
        return Reason::io_in;
    case 0x6e:
    case 0x6f:
    case 0xee:
    case 0xef:
        return Reason::io_out;
    case 0xe4:
    case 0xe5:
        code.skip(1);
        return Reason::io_in;
    case 0xe6:
    case 0xe7:
        code.skip(1);
        return Reason::io_out;
    case 0xf4:
        return Reason::hlt;
    default:
        return Reason::none;
    }
}

bool is_legacy_prefix(u8 byte) {
    constexpr std::array<u8, 11> prefixes{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
    return std::find(prefixes.begin(), prefixes.end(), byte) != prefixes.end();
}

bool ends_with(std::span<const u8> bytes, std::initializer_list<u8> end) {
    return bytes.size() >= end.size() && std::equal(end.begin(), end.end(), bytes.end() - end.size());
}

} // namespace

Decoded decode_privileged(std::span<const u8> bytes) {
    Cursor code{bytes};
    bool operand_size = false;
    while (is_legacy_prefix(code.peek())) {
        operand_size |= code.next() == 0x66;
    }
    const u8 rex = (code.peek() & 0xf0) == 0x40 ? code.next() : u8{0};
    const Reason reason = one_byte(code, (rex & 4) != 0, operand_size);
    return reason != Reason::none && code.ok() ? Decoded{reason, code.position()} : Decoded{};
}

TrapExit describe(const Trap& trap) {
    abi::Exit exit{};
    exit.raw_reason = static_cast<u64>(trap.signal);
    exit.qualification = trap.vector;
    exit.interruption_error = static_cast<u32>(trap.error);
    exit.reason = static_cast<u16>(Reason::exception);
    exit.vector = static_cast<u16>(trap.vector);
    u64 rip = trap.rip;
    switch (trap.vector) {
    case breakpoint: // reported at the instruction, as VMX and SVM do
        exit.instruction_length = ends_with(trap.before, {0xcc})      ? 1
                                  : ends_with(trap.before, {0xcd, 3}) ? 2
                                                                      : 0;
        rip -= exit.instruction_length;
        break;
    case page_fault:
        exit.guest_linear = trap.address;
        break;
    case general_protection:
        if (const Decoded decoded = decode_privileged(trap.code); decoded.reason != Reason::none) {
            exit.reason = static_cast<u16>(decoded.reason);
            exit.vector = 0;
            exit.instruction_length = decoded.length;
        }
        break;
    default:
        break;
    }
    exit.next_rip = exit.instruction_length != 0 ? rip + exit.instruction_length : 0;
    return {exit, rip};
}

} // namespace refhv::client::self
