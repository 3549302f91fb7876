// SPDX-License-Identifier: MIT
// The console that the firmware names: ACPI's Serial Port Console Redirection table (Microsoft, SPCR 2 to 4).
#pragma once

#include "refhv/boot/acpi.hpp"
#include "refhv/boot/command_line.hpp"

namespace refhv::boot {

// The first port of the 16550 or 16450 that the table names, if it has I/O ports; 0: there is no such table,
// or its UART is another, or lies in memory.
template <class ToVirtual>
[[nodiscard]] u16 find_console_port(const u8* root, ToVirtual to_virtual) {
    constexpr u32 end_of_address = 52;
    constexpr u8 uart_16550 = 0, uart_16450 = 1, io_space = 1;
    const u8* const spcr = acpi::find_table(root, "SPCR", to_virtual);
    if (spcr == nullptr || acpi::load<u32>(spcr + 4) < end_of_address) {
        return 0;
    }
    const u8 kind = spcr[36], space = spcr[40];
    const u64 address = acpi::load<u64>(spcr + 44);
    const bool ours =
        (kind == uart_16550 || kind == uart_16450) && space == io_space && is_uart_port(address);
    return ours ? static_cast<u16>(address) : u16{0};
}

} // namespace refhv::boot
