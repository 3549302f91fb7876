// SPDX-License-Identifier: MIT
// An I/O APIC with 24 pins: the 82093AA (Intel data sheet 290566), and with version 20H the EOI register of
// later chipsets (Intel 319973, ICH10, 13.5.6). A pin is high where its device asks for an interrupt; which
// voltage that would be, a polarity bit says and nobody minds.
#pragma once

#include "refhv/monitor/device/apic_message.hpp"
#include "refhv/monitor/device/device.hpp"

#include <array>

namespace refhv::monitor {

class IoApic final : public Device {
  public:
    static constexpr unsigned pins = 24;
    static constexpr u8 without_eoi = 0x11, with_eoi = 0x20; // versions

    // Hands a message to the local APICs; true if one accepts it.
    using Send = std::function<bool(const ApicMessage&)>;
    IoApic(Send send, u8 version);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    [[nodiscard]] std::span<std::byte> state() override;

    void set(unsigned pin, bool level);
    // A local APIC ends a level-triggered interrupt.
    void end_of_interrupt(u8 vector);
    // Whether the interrupt controllers' INTR reaches the CPU through pin 0.
    [[nodiscard]] bool accepts_extint() const;

  private:
    struct State {
        std::array<u64, pins> entries{};
        u32 lines = 0;
        u8 id = 0, select = 0;
        u8 unused[2] = {};
    };

    [[nodiscard]] u32 read_window() const;
    void write_window(u32 value);
    void write_entry(unsigned pin, bool high, u32 value);
    void offer(unsigned pin);
    [[nodiscard]] bool send(u64 entry) const;

    State state_;
    Send send_;
    u8 version_;
};

} // namespace refhv::monitor
