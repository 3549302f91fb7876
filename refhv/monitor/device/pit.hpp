// SPDX-License-Identifier: MIT
// The 8254 of a PC with port 61H, which has the gate and the output of counter 2 (Intel 82371AB data sheet,
// 290562). Gates 0 and 1 are open. The machine passes the time before each access.
#pragma once

#include "refhv/monitor/device/device.hpp"
#include "refhv/monitor/device/pit_counter.hpp"

#include <array>

namespace refhv::monitor {

class Pit final : public Device {
  public:
    static constexpr u64 port_b = 4; // 61H among its registers; 40H to 43H are the first four
    static constexpr u64 hertz = 1'193'182;

    // The line is OUT of counter 0.
    explicit Pit(Line out);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void pass(Time now) override;
    // The next rise of counter 0's OUT.
    [[nodiscard]] std::optional<Time> due() const override;
    [[nodiscard]] std::span<std::byte> state() override;
    void restored() override;

  private:
    struct State {
        std::array<PitCounter, 3> counters{PitCounter(true), PitCounter(true), PitCounter(false)};
        u64 tick = 0;
        u8 port_b = 0;
        u8 out = 0; // the level that was last given to the line
        u8 unused[6] = {};
    };

    void command(u8 word);
    void drive(bool level);

    State state_;
    Line line_;
};

} // namespace refhv::monitor
