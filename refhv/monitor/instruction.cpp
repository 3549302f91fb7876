// SPDX-License-Identifier: MIT
#include "refhv/monitor/instruction.hpp"

#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

std::optional<Instruction> Instruction::at_rip(const abi::GuestState& s, GuestView& view) {
    const abi::Segment& cs = s.segment[abi::cs];
    const bool long_code = (cs.rights >> 13 & 1) != 0 && (s.efer & x86::efer::lma) != 0;
    const bool wide = (cs.rights >> 14 & 1) != 0;
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder,
                     long_code ? ZYDIS_MACHINE_MODE_LONG_64
                     : wide    ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                               : ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
                     long_code ? ZYDIS_STACK_WIDTH_64
                     : wide    ? ZYDIS_STACK_WIDTH_32
                               : ZYDIS_STACK_WIDTH_16);
    std::array<u8, ZYDIS_MAX_INSTRUCTION_LENGTH> bytes{};
    const usize got = view.fetch(long_code ? s.rip : cs.base + s.rip, bytes);
    Instruction i;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), got, &i.info, i.operands.data()))) {
        return {};
    }
    return i;
}

std::optional<RegisterPlace> general_register(ZydisRegister reg) {
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
        return RegisterPlace{static_cast<unsigned>(reg - ZYDIS_REGISTER_AH), 8};
    }
    const ZydisRegister wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    if (wide < ZYDIS_REGISTER_RAX || wide > ZYDIS_REGISTER_R15) {
        return {};
    }
    return RegisterPlace{static_cast<unsigned>(wide - ZYDIS_REGISTER_RAX), 0};
}

} // namespace refhv::monitor
