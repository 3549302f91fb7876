// SPDX-License-Identifier: MIT
// A part of a device that lies elsewhere than the rest, as the slave of two interrupt controllers does: its
// own registers, state and clock are the device's.
#pragma once

#include "refhv/monitor/device/device.hpp"

namespace refhv::monitor {

class Window final : public Device {
  public:
    Window(Device& device, u64 base) : device_(device), base_(base) {}

    [[nodiscard]] u64 read(u64 offset, unsigned size) override { return device_.read(base_ + offset, size); }
    void write(u64 offset, unsigned size, u64 value) override { device_.write(base_ + offset, size, value); }
    [[nodiscard]] std::span<std::byte> state() override { return {}; }

  private:
    Device& device_;
    u64 base_;
};

} // namespace refhv::monitor
