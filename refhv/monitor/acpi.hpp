// SPDX-License-Identifier: MIT
// The ACPI tables of a machine: as few as an operating system needs to turn it off and to find its interrupt
// controllers (ACPI 6.5, 5.2).
#pragma once

#include "refhv/contract/types.hpp"

#include <vector>

namespace refhv::monitor {

struct AcpiMachine {
    u16 pm_event, pm_control, pm_timer; // ports
    u8 sci;                             // the interrupt of the first
    u8 sleep_type;                      // of S5, written to pm_control with SLP_EN
    struct Virtio {                     // a device in memory
        u32 address, bytes;
        u8 interrupt;
    };
    std::vector<Virtio> virtio;
    bool apic; // local APIC at FEE00000H and I/O APIC at FEC00000H, with legacy wiring
};

// All tables for the guest-physical address `at`, the RSDP first.
[[nodiscard]] std::vector<u8> make_acpi_tables(const AcpiMachine& machine, u32 at);

} // namespace refhv::monitor
