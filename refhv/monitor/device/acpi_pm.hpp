// SPDX-License-Identifier: MIT
// ACPI's fixed hardware (ACPI 6.4, 4.8.3): the PM1a event and control registers and the power management
// timer, one behind the other. The machine is in ACPI mode from the start. It passes the time before each
// access.
#pragma once

#include "refhv/monitor/device/device.hpp"

namespace refhv::monitor {

class AcpiPm final : public Device {
  public:
    static constexpr u64 event = 0, control = 4, timer = 8, length = 12; // for the FADT, from the base port
    static constexpr u64 hertz = 3'579'545;

    // SLP_EN with its SLP_TYP; the line is the SCI.
    using Sleep = std::function<void(u8 type)>;
    AcpiPm(Sleep sleep, Line interrupt);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void pass(Time now) override;
    [[nodiscard]] std::optional<Time> due() const override;
    [[nodiscard]] std::span<std::byte> state() override;
    void restored() override;

    void press_power_button();

  private:
    struct State {
        u64 tick = 0;
        u16 status = 0, enable = 0, control = 0;
        u8 interrupt = 0; // the level that was last given to the line
        u8 unused = 0;
    };

    void write_register(u64 offset, u8 value);
    void update();

    State state_;
    Sleep sleep_;
    Line line_;
};

} // namespace refhv::monitor
