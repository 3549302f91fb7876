// SPDX-License-Identifier: MIT
// The two 8259A of a PC, the slave on the master's input 2, and their ELCRs.
#pragma once

#include "refhv/monitor/device/device.hpp"
#include "refhv/monitor/device/pic.hpp"

#include <array>

namespace refhv::monitor {

// Where each port lies among its registers.
class PicPair final : public Device {
  public:
    static constexpr u64 master_ports = 0; // 20H and 21H
    static constexpr u64 slave_ports = 2;  // A0H and A1H
    static constexpr u64 elcr_ports = 4;   // 4D0H and 4D1H

    // Inputs 0 to 15; 2 is the slave's and takes nothing.
    void set(unsigned irq, bool level);
    // INTR of the CPU.
    [[nodiscard]] bool pending() const { return chips_[0].request().has_value(); }
    // The vector that acknowledge() would give.
    [[nodiscard]] std::optional<u8> vector() const;
    // What the INTA cycles of a CPU bring: a vector, in whatever state the two are.
    [[nodiscard]] u8 acknowledge();

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    [[nodiscard]] std::span<std::byte> state() override;

  private:
    void cascade();

    // IRQ 0, 1, 2, 8 and 13 are edge-triggered for good.
    std::array<Pic, 2> chips_{Pic(true, 0xf8), Pic(false, 0xde)};
};

} // namespace refhv::monitor
