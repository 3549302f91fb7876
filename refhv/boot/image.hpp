// SPDX-License-Identifier: MIT
// The one bootable machine: its console, its interrupt controllers, its ends.
#pragma once

#include "refhv/boot/console.hpp"
#include "refhv/boot/descriptors.hpp"
#include "refhv/boot/local_apic.hpp"

namespace refhv::boot {

struct Image {
    Console console;
    LocalApic apic; // each CPU's own, all alike
    const u8* acpi_root = nullptr;
};

extern Image image;

// Sends a frame of kind reply.
void send_reply(u32 sequence, std::span<const u8> payload);

// Says what happened to the core and turns the machine off.
[[noreturn]] void crash(const char* where, const InterruptFrame& frame);

// By QEMU's isa-debug-exit or Bochs' port 8900H; elsewhere the machine is reset. Does not return.
[[noreturn]] void power_off();

} // namespace refhv::boot
