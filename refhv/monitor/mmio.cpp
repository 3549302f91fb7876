// SPDX-License-Identifier: MIT
#include "refhv/monitor/mmio.hpp"

#include "refhv/monitor/instruction.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

namespace {

namespace flag {
constexpr u64 cf = 1, pf = 1u << 2, af = 1u << 4, zf = 1u << 6, sf = 1u << 7, of = 1u << 11,
              all = cf | pf | af | zf | sf | of;
}

// One instruction that reads or writes a device.
class Access {
  public:
    Access(Vm& vm, GuestView& view, const Bus& memory, u64 gpa)
        : vm_(vm), s_(vm.state), view_(view), memory_(memory), gpa_(gpa) {}

    MmioResult run() {
        const auto found = Instruction::at_rip(s_, view_);
        if (!found) {
            return {"the instruction at RIP cannot be fetched or decoded", {}};
        }
        i_ = *found;
        execute();
        if (result_.refused.empty() && !result_.fault && !goes_on_) {
            s_.rip += i_.info.length;
            s_.interrupt_shadow = 0;
        }
        return result_;
    }

  private:
    using Operand = ZydisDecodedOperand;

    void execute() {
        switch (i_.info.mnemonic) {
        case ZYDIS_MNEMONIC_MOV:
        case ZYDIS_MNEMONIC_MOVNTI:
        case ZYDIS_MNEMONIC_MOVZX:
            return put(i_.operands[0], get(i_.operands[1]));
        case ZYDIS_MNEMONIC_MOVSX:
        case ZYDIS_MNEMONIC_MOVSXD:
            return put(i_.operands[0], sign_extend(get(i_.operands[1]), i_.operands[1].size));
        case ZYDIS_MNEMONIC_XCHG: {
            const u64 first = get(i_.operands[0]), second = get(i_.operands[1]);
            put(i_.operands[0], second);
            return put(i_.operands[1], first);
        }
        case ZYDIS_MNEMONIC_AND:
            return combine([](u64 a, u64 b) { return a & b; }, true);
        case ZYDIS_MNEMONIC_OR:
            return combine([](u64 a, u64 b) { return a | b; }, true);
        case ZYDIS_MNEMONIC_XOR:
            return combine([](u64 a, u64 b) { return a ^ b; }, true);
        case ZYDIS_MNEMONIC_TEST:
            return combine([](u64 a, u64 b) { return a & b; }, false);
        case ZYDIS_MNEMONIC_CMP:
            return compare();
        case ZYDIS_MNEMONIC_BT:
            return bit_test();
        case ZYDIS_MNEMONIC_STOSB:
        case ZYDIS_MNEMONIC_STOSW:
        case ZYDIS_MNEMONIC_STOSD:
        case ZYDIS_MNEMONIC_STOSQ:
        case ZYDIS_MNEMONIC_MOVSB:
        case ZYDIS_MNEMONIC_MOVSW:
        case ZYDIS_MNEMONIC_MOVSD:
        case ZYDIS_MNEMONIC_MOVSQ:
            return string();
        default:
            result_.refused = std::string("no emulation of ") + i_.name() + " with a device's memory";
        }
    }

    static u64 sign_extend(u64 value, unsigned bits) {
        const unsigned shift = 64 - bits;
        return bits >= 64 ? value : static_cast<u64>(static_cast<i64>(value << shift) >> shift);
    }

    // General registers; of the others none is part of what is emulated.
    u64* place_of(ZydisRegister reg, unsigned& shift) {
        const auto place = general_register(reg);
        if (!place) {
            result_.refused =
                std::string("no emulation of a device's memory with register ") + ZydisRegisterGetString(reg);
            return nullptr;
        }
        shift = place->shift;
        return &s_.gpr[place->number];
    }

    u64 get(const Operand& o) {
        const u64 mask = all_ones(o.size / 8u);
        unsigned shift = 0;
        switch (o.type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if (const u64* const reg = place_of(o.reg.value, shift); reg != nullptr) {
                return *reg >> shift & mask;
            }
            return 0;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            return o.imm.value.u;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            return memory_.read(gpa_, o.size / 8u);
        default:
            result_.refused = "no emulation of such an operand";
            return 0;
        }
    }

    void put(const Operand& o, u64 value) {
        if (!result_.refused.empty()) {
            return;
        }
        if (o.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            return memory_.write(gpa_, o.size / 8u, value);
        }
        unsigned shift = 0;
        u64* const reg = place_of(o.reg.value, shift);
        if (reg == nullptr) {
            return;
        }
        if (o.size == 32) {
            *reg = value & all_ones(4);
        } else {
            const u64 mask = all_ones(o.size / 8u) << shift;
            *reg = (*reg & ~mask) | (value << shift & mask);
        }
    }

    void set_flags(u64 value, unsigned bits, u64 others) {
        const u64 masked = value & all_ones(bits / 8);
        u64 flags = others;
        flags |= masked == 0 ? flag::zf : 0;
        flags |= (masked >> (bits - 1) & 1) != 0 ? flag::sf : 0;
        flags |= __builtin_popcount(static_cast<unsigned>(masked & 0xff)) % 2 == 0 ? flag::pf : 0;
        s_.rflags = (s_.rflags & ~flag::all) | flags;
    }

    template <class F>
    void combine(F f, bool writes) {
        const u64 value = f(get(i_.operands[0]), get(i_.operands[1]));
        if (writes) {
            put(i_.operands[0], value);
        }
        if (result_.refused.empty()) {
            set_flags(value, i_.operands[0].size, 0);
        }
    }

    void compare() {
        const unsigned bits = i_.operands[0].size;
        const u64 mask = all_ones(bits / 8), a = get(i_.operands[0]) & mask, b = get(i_.operands[1]) & mask;
        const u64 difference = a - b;
        const bool overflow = (((a ^ b) & (a ^ difference)) >> (bits - 1) & 1) != 0;
        if (result_.refused.empty()) {
            set_flags(difference, bits,
                      (a < b ? flag::cf : 0) | (overflow ? flag::of : 0) |
                          (((a ^ b ^ difference) & 0x10) != 0 ? flag::af : 0));
        }
    }

    void bit_test() {
        const u64 value = get(i_.operands[0]), bit = get(i_.operands[1]) % i_.operands[0].size;
        if (i_.operands[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            result_.refused =
                "no emulation of BT with a register and a device's memory"; // which reaches beyond
        } else {
            s_.rflags = (s_.rflags & ~flag::cf) | (value >> bit & 1);
        }
    }

    // One element; what REP has left comes back with the next exit.
    void string() {
        const unsigned size = i_.operands[0].size / 8u;
        const bool repeats = (i_.info.attributes &
                              (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0;
        const u64 width = all_ones(i_.info.address_width / 8u);
        const u64 step = (s_.rflags & x86::rflags_bits::df) != 0 ? -u64{size} : u64{size};
        const bool moves = i_.operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
        const auto add = [width](u64& reg, u64 by) {
            const u64 sum = reg + by;
            reg = width == all_ones(8) || width == all_ones(4) ? sum & width : (reg & ~width) | (sum & width);
        };
        if (moves && !move(size)) {
            return;
        }
        if (!moves) {
            memory_.write(gpa_, size, s_.gpr[abi::rax] & all_ones(size));
        }
        add(s_.gpr[abi::rdi], step);
        if (moves) {
            add(s_.gpr[abi::rsi], step);
        }
        if (repeats) {
            add(s_.gpr[abi::rcx], ~u64{0});
            goes_on_ = (s_.gpr[abi::rcx] & width) != 0;
        }
    }

    // MOVS between a device and memory, whichever way.
    bool move(unsigned size) {
        const u64 width = all_ones(i_.info.address_width / 8u);
        const auto segment = [&](ZydisRegister reg) {
            switch (reg) {
            case ZYDIS_REGISTER_FS:
                return s_.segment[abi::fs].base;
            case ZYDIS_REGISTER_GS:
                return s_.segment[abi::gs].base;
            case ZYDIS_REGISTER_ES:
                return s_.segment[abi::es].base;
            default:
                return s_.segment[abi::ds].base;
            }
        };
        const bool long_code = i_.is_64_bit();
        const auto base = [&](ZydisRegister reg) {
            const bool counts = !long_code || reg == ZYDIS_REGISTER_FS || reg == ZYDIS_REGISTER_GS;
            return counts ? segment(reg) : 0;
        };
        const u64 from = base(i_.operands[1].mem.segment) + (s_.gpr[abi::rsi] & width);
        const u64 to = base(ZYDIS_REGISTER_ES) + (s_.gpr[abi::rdi] & width);
        GuestView::Fault fault{};
        const auto source = view_.translate(from, {}, fault);
        const auto target = source ? view_.translate(to, {.write = true}, fault) : std::nullopt;
        if (!source || !target) {
            result_.fault = fault;
            return false;
        }
        u64 value = 0;
        if (vm_.contains(*source, size)) {
            vm_.read(*source, {reinterpret_cast<u8*>(&value), size});
        } else {
            value = memory_.read(*source, size);
        }
        if (vm_.contains(*target, size)) {
            vm_.write(*target, {reinterpret_cast<const u8*>(&value), size});
        } else {
            memory_.write(*target, size, value);
        }
        return true;
    }

    Vm& vm_;
    abi::GuestState& s_;
    GuestView& view_;
    const Bus& memory_;
    u64 gpa_;
    Instruction i_;
    MmioResult result_;
    bool goes_on_ = false;
};

} // namespace

MmioResult emulate_mmio(Vm& vm, GuestView& view, const Bus& memory, u64 gpa) {
    return Access(vm, view, memory, gpa).run();
}

} // namespace refhv::monitor
