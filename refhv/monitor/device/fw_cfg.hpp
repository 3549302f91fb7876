// SPDX-License-Identifier: MIT
// QEMU's firmware configuration device at ports 510H and 511H (QEMU, docs/specs/fw_cfg), as much of it as
// says what machine this is: no files, no DMA.
#pragma once

#include "refhv/monitor/device/device.hpp"

namespace refhv::monitor {

class FwCfg final : public Device {
  public:
    FwCfg(u16 cpus, u64 memory) : cpus_(cpus), memory_(memory) {}

    // 16 bits at 0 select an item, each byte read at 1 is its next.
    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    [[nodiscard]] std::span<std::byte> state() override;

  private:
    struct State {
        u32 at = 0;
        u16 key = 0;
        u16 unused = 0;
    };

    [[nodiscard]] u8 next_byte();

    State state_;
    u16 cpus_;
    u64 memory_;
};

} // namespace refhv::monitor
