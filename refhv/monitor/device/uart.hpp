// SPDX-License-Identifier: MIT
// The 16550A UART (National Semiconductor PC16550D data sheet). A character takes no time on its line, so
// what is sent is gone at once, and the time-out of four characters falls due as soon as one is below the
// trigger level. The line carries bytes, whatever length the LCR asks for. INTR is the chip's pin; no board
// gates it by OUT2.
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <array>

namespace refhv::monitor {

class Uart final : public Device {
  public:
    using Sink = std::function<void(u8)>;

    // Bits of the LSR that a character may bring with it.
    static constexpr u8 parity_error = 1 << 2, framing_error = 1 << 3, break_interrupt = 1 << 4;

    Uart(Sink sink, Line interrupt);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    [[nodiscard]] std::span<std::byte> state() override;
    void restored() override;

    // A character arrives; beyond room() the chip overruns, as the data sheet has it.
    void receive(u8 character, u8 errors = 0);
    [[nodiscard]] unsigned room() const;

  private:
    struct State {
        std::array<u8, 16> characters{}, errors{}; // the receiver's FIFO; 16450 mode uses its first
        u8 head = 0, count = 0;
        u8 ier = 0, fcr = 0, lcr = 0, mcr = 0, scratch = 0;
        u8 line_status = 0;  // OE, PE, FE, BI as the next read of the LSR sees them
        u8 modem_deltas = 0; // bits 3:0 of the MSR
        u8 thr_empty = 0;    // the interrupt of an empty THR is due
        u8 divisor_low = 1, divisor_high = 0;
        u8 interrupt = 0; // the level that was last given to the line
    };

    [[nodiscard]] u8 read_register(u64 offset);
    void write_register(u64 offset, u8 value);
    [[nodiscard]] u8 next_character();
    void reveal_errors();
    void clear_receiver();
    void send(u8 character);
    void set_fifo_control(u8 value);
    void set_modem_control(u8 value);
    [[nodiscard]] u8 modem_lines() const;
    [[nodiscard]] u8 line_status() const;
    [[nodiscard]] u8 identification() const;
    [[nodiscard]] unsigned depth() const;
    void update();

    State state_;
    Sink sink_;
    Line line_;
};

} // namespace refhv::monitor
