// SPDX-License-Identifier: MIT
// The one bootable machine: its console, its timer, its ends.
#pragma once

#include "refhv/boot/apic_timer.hpp"
#include "refhv/boot/console.hpp"
#include "refhv/boot/descriptors.hpp"

namespace refhv::boot {

struct Image {
    Console console;
    ApicTimer timer;
    u64 interrupts = 0;
    u64 nmis = 0;
    bool in_run = false;
};

extern Image image;

// Sends a frame of kind reply.
void send_reply(u32 sequence, std::span<const u8> payload);

// Says what happened to the core and turns the machine off.
[[noreturn]] void crash(const char* where, const InterruptFrame& frame);

// QEMU (isa-debug-exit), Bochs (port 0x8900), else a halt with interrupts off. Does not return.
[[noreturn]] void power_off();

} // namespace refhv::boot
