// SPDX-License-Identifier: MIT
// The fields of a VMCS (SDM 3D appendix B) and the capability that each depends on.
#pragma once

#include "refhv/front/session.hpp"

#include <vector>

namespace refhv::front::root {

struct VmcsField {
    u32 encoding; // full access
    bool exists;  // by the capability MSRs

    [[nodiscard]] constexpr unsigned width() const { return encoding >> 13 & 3; } // 16, 64, 32, natural
    [[nodiscard]] constexpr unsigned type() const {
        return encoding >> 10 & 3;
    } // control, VM-exit information, …
    [[nodiscard]] constexpr unsigned index() const { return encoding >> 1 & 0x1ff; }
    [[nodiscard]] constexpr bool is_read_only() const { return type() == 1; }
    [[nodiscard]] constexpr bool has_high_part() const { return width() == 1; }
    // The bits that it has.
    [[nodiscard]] constexpr u64 mask() const {
        return width() == 0 ? 0xffff : width() == 2 ? 0xffff'ffff : ~u64{0};
    }
    // Of segments: CPUs may drop the reserved bits of access rights.
    [[nodiscard]] constexpr u64 kept_bits() const {
        return encoding >= 0x4814 && encoding <= 0x4822 ? 0x1'f0ff : mask();
    }
};

// All that the appendix lists.
[[nodiscard]] std::vector<VmcsField> vmcs_fields(const client::HelloInfo& hello);

} // namespace refhv::front::root
