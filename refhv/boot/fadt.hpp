// SPDX-License-Identifier: MIT
// How ACPI resets the machine: RESET_REG of the FADT (ACPI 6.5, sections 4.8.3.6 and 5.2.9).
#pragma once

#include "refhv/boot/acpi.hpp"

namespace refhv::boot {

struct ResetRegister {
    u16 port = 0; // 0: ACPI names none, or one that is no I/O port
    u8 value = 0;
};

template <class ToVirtual>
[[nodiscard]] ResetRegister find_reset_register(const u8* root, ToVirtual to_virtual) {
    constexpr u32 end_of_value = 129, supported = 1u << 10;
    constexpr u8 io_space = 1;
    const u8* const fadt = acpi::find_table(root, "FACP", to_virtual);
    if (fadt == nullptr || acpi::load<u32>(fadt + 4) < end_of_value ||
        (acpi::load<u32>(fadt + 112) & supported) == 0) {
        return {};
    }
    const u64 address = acpi::load<u64>(fadt + 120);
    return fadt[116] == io_space && address <= 0xffff ? ResetRegister{static_cast<u16>(address), fadt[128]}
                                                      : ResetRegister{};
}

} // namespace refhv::boot
