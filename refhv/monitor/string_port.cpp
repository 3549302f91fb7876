// SPDX-License-Identifier: MIT
// INS and OUTS, with and without REP (SDM 2A and 2B; APM 3).
#include "refhv/monitor/instruction.hpp"
#include "refhv/monitor/machine.hpp"
#include "refhv/monitor/port_access.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

namespace {

constexpr u64 most_at_once = 4096; // elements; then interrupts may come in between

u64 segment_base(const abi::GuestState& s, ZydisRegister reg, bool long_code) {
    switch (reg) {
    case ZYDIS_REGISTER_FS:
        return s.segment[abi::fs].base;
    case ZYDIS_REGISTER_GS:
        return s.segment[abi::gs].base;
    case ZYDIS_REGISTER_ES:
        return long_code ? 0 : s.segment[abi::es].base;
    case ZYDIS_REGISTER_CS:
        return long_code ? 0 : s.segment[abi::cs].base;
    case ZYDIS_REGISTER_SS:
        return long_code ? 0 : s.segment[abi::ss].base;
    default:
        return long_code ? 0 : s.segment[abi::ds].base;
    }
}

} // namespace

void Machine::string_port(const PortAccess& access) {
    GuestView view(vm_, hello_);
    abi::GuestState& s = vm_.state;
    const auto i = Instruction::at_rip(s, view);
    if (!i) {
        return fail("a string instruction with a port that cannot be fetched");
    }
    const auto& memory = i->operands[access.in ? 0 : 1];
    if (memory.type != ZYDIS_OPERAND_TYPE_MEMORY) {
        return fail(std::string("no emulation of ") + i->name() + " with a port");
    }
    const u64 mask = all_ones(i->info.address_width / 8u);
    const auto set = [mask](u64& reg, u64 value) {
        reg = mask == all_ones(2) ? (reg & ~mask) | (value & mask) : value & mask;
    };
    u64& index = s.gpr[access.in ? abi::rdi : abi::rsi];
    const u64 base = segment_base(s, memory.mem.segment, i->is_64_bit());
    const u64 step = (s.rflags & x86::rflags_bits::df) != 0 ? -u64{access.size} : u64{access.size};
    const u64 left = access.repeated ? s.gpr[abi::rcx] & mask : 1;
    u64 done = 0;
    while (done < left && done < most_at_once && !ending_) {
        const u64 linear = base + (index & mask);
        GuestView::Fault fault{};
        u64 value = access.in ? board_.ports().read(access.port, access.size) : 0;
        if (!view.copy(linear, {reinterpret_cast<u8*>(&value), access.size}, access.in, fault)) {
            page_fault(fault);
            break;
        }
        if (!access.in) {
            board_.ports().write(access.port, access.size, value);
        }
        set(index, index + step);
        ++done;
    }
    if (access.repeated) {
        set(s.gpr[abi::rcx], left - done);
    }
    if (done == left) {
        s.rip += i->info.length;
        s.interrupt_shadow = 0;
    }
}

} // namespace refhv::monitor
