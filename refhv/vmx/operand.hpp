// SPDX-License-Identifier: MIT
// Memory operands as VM-exit instruction information describes them (SDM 3C tables 28-8 to 28-14: the fields
// that all of them have).
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/vmx/instructions.hpp"

namespace refhv::vmx {

// Linear address. `displacement`: the exit qualification; `gpr`: in encoding order, RSP excepted.
[[nodiscard]] inline u64 operand_address(u64 info, u64 displacement, const u64* gpr) {
    constexpr u64 no_index = 1u << 22, no_base = 1u << 27;
    const auto reg = [&](unsigned n) { return n == abi::rsp ? read(Field::guest_rsp) : gpr[n]; };
    u64 address = displacement;
    address += (info & no_base) == 0 ? reg(info >> 23 & 15) : 0;
    address += (info & no_index) == 0 ? reg(info >> 18 & 15) << (info & 3) : 0;
    const unsigned size = info >> 7 & 7; // 0: 16 bits, 1: 32, 2: 64
    address = size == 0 ? static_cast<u16>(address) : size == 1 ? static_cast<u32>(address) : address;
    // In 64-bit mode the bases of all but FS and GS are 0, and those are all that the CPU keeps.
    const unsigned segment = info >> 15 & 7;
    constexpr u64 code_is_64 = 1u << 13;
    const bool code64 = (read(segment_field(Field::guest_es_rights, abi::cs)) & code_is_64) != 0;
    const u64 base = code64 && segment < 4 ? 0 : read(segment_field(Field::guest_es_base, segment));
    return code64 ? base + address : static_cast<u32>(base + address);
}

} // namespace refhv::vmx
