// SPDX-License-Identifier: MIT
// The instruction at which a guest exited, decoded by Zydis.
#pragma once

#include "refhv/monitor/guest_view.hpp"

#include <Zydis/Zydis.h>
#include <array>

namespace refhv::monitor {

struct Instruction {
    ZydisDecodedInstruction info{};
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands{};

    // Nothing: its bytes cannot be had, or are none.
    [[nodiscard]] static std::optional<Instruction> at_rip(const abi::GuestState& state, GuestView& view);

    [[nodiscard]] const char* name() const { return ZydisMnemonicGetString(info.mnemonic); }
    [[nodiscard]] bool is_64_bit() const { return info.machine_mode == ZYDIS_MACHINE_MODE_LONG_64; }
};

// Of a general register, as ModRM and REX number them; `shift` is 8 for AH to BH. Nothing: another register.
struct RegisterPlace {
    unsigned number, shift;
};
[[nodiscard]] std::optional<RegisterPlace> general_register(ZydisRegister reg);

} // namespace refhv::monitor
