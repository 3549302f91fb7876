// SPDX-License-Identifier: MIT
// The 8042 keyboard controller of a PC with nothing plugged in (Intel 82371AB and IBM PC AT technical
// reference, 8042): commands are answered at once, bytes for a keyboard time out at once, and the machine may
// be reset through it.
#pragma once

#include "refhv/monitor/device/device.hpp"

namespace refhv::monitor {

class Keyboard final : public Device {
  public:
    static constexpr u64 data = 0, command = 4; // 60H and 64H; what lies between is not its

    Keyboard(std::function<void()> reset, Line interrupt);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    [[nodiscard]] std::span<std::byte> state() override;

  private:
    struct State {
        u8 command_byte = 0x30; // both interfaces are off
        u8 output_port = 0x03;  // A20 on, no reset
        u8 output = 0, full = 0, timed_out = 0;
        u8 awaited = 0;    // the command whose byte comes next at port 60H
        u8 to_command = 0; // where the last write went, bit 3 of the status
        u8 interrupt = 0;  // the level that was last given to the line
    };

    [[nodiscard]] u8 read_data();
    void write_data(u8 value);
    void write_command(u8 value);
    void answer(u8 value, bool timed_out = false);
    void set_output_port(u8 value);
    void update();

    State state_;
    std::function<void()> reset_;
    Line line_;
};

} // namespace refhv::monitor
