// SPDX-License-Identifier: MIT
// Where the image's bytes go and come from: out by port 0xE9 where an emulator answers there, else by a UART,
// COM1 unless another is named; in by that UART.
#pragma once

#include "refhv/x86/intrinsics.hpp"

#include <span>

namespace refhv::boot {

class Console {
  public:
    static constexpr u16 com1 = 0x3f8;

    // The UART at that port at 115200 8N1, FIFOs on, no interrupts; decides about port 0xE9.
    void init(u16 uart) {
        uart_ = uart;
        constexpr u8 settings[][2] = {
            {1, 0x00}, {3, 0x80}, {0, 0x01},
            {1, 0x00}, {3, 0x03}, {fifo_control, fifos_on | clear_receiver | clear_transmitter},
            {4, 0x03}};
        for (const auto& s : settings) {
            x86::outb(at(s[0]), s[1]);
        }
        debug_port_ = has_debug_port();
    }

    // Bochs and QEMU read it back so.
    [[nodiscard]] static bool has_debug_port() { return x86::inb(debug_console) == debug_console; }

    [[nodiscard]] bool uses_debug_port() const { return debug_port_; }

    void write(std::span<const u8> bytes) const {
        if (debug_port_) {
            x86::rep_outsb(debug_console, bytes.data(), bytes.size());
            return;
        }
        for (const u8 b : bytes) {
            while ((x86::inb(at(line_status)) & transmitter_empty) == 0) {
                x86::pause();
            }
            x86::outb(uart_, b);
        }
    }

    // The last byte is on the line, or a UART that never says so has been waited for.
    void drain() const {
        for (u32 i = 0; i < (1u << 20) && (x86::inb(at(line_status)) & line_idle) == 0; ++i) {
            x86::pause();
        }
    }

    // Has somebody begun to send?
    [[nodiscard]] bool has_input() const { return (x86::inb(at(line_status)) & data_ready) != 0; }

    // Waits for at least one byte, or where `patience` is not 0 for no longer than so many TSC ticks, then
    // takes what is there; returns how many.
    usize read(std::span<u8> into, u64 patience = 0) const {
        usize n = 0;
        const u64 begin = patience != 0 ? x86::rdtsc() : 0;
        while (n == 0) {
            while (n < into.size() && has_input()) {
                into[n++] = x86::inb(uart_);
            }
            if (n == 0) {
                if (patience != 0 && x86::rdtsc() - begin > patience) {
                    break;
                }
                x86::pause();
            }
        }
        return n;
    }

    // A request is complete and the client sends nothing before its answer: the receiver, if empty, is told
    // so. QEMU would otherwise end the CPU's turn at the character time-out, four characters later, amid what
    // is measured, and an interrupt that it has just injected would come twice (conformance/departures.json).
    // It plans a turn when it begins, and PAUSE begins one.
    void expect_silence() const {
        if (!has_input()) {
            x86::outb(at(fifo_control), fifos_on | clear_receiver);
            x86::pause();
        }
    }

  private:
    static constexpr u16 fifo_control = 2, line_status = 5, debug_console = 0xe9;
    static constexpr u8 fifos_on = 0xc1, clear_receiver = 2, clear_transmitter = 4;
    static constexpr u8 data_ready = 1, transmitter_empty = 0x20, line_idle = 0x40;
    [[nodiscard]] u16 at(u16 offset) const { return static_cast<u16>(uart_ + offset); }
    u16 uart_ = com1;
    bool debug_port_ = false;
};

} // namespace refhv::boot
