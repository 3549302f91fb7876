// SPDX-License-Identifier: MIT
// A virtio console with one port (virtio 1.2, 5.3).
#pragma once

#include "refhv/monitor/device/virtio_mmio.hpp"

namespace refhv::monitor {

class VirtioConsole final : public VirtioMmio {
  public:
    using Sink = std::function<void(std::span<const u8>)>;
    VirtioConsole(GuestMemory& memory, Sink sink, Line interrupt);

    [[nodiscard]] std::span<std::byte> state() override;
    void restored() override;

    // Takes as many of them as there is room for, and hands them on as the driver gives it buffers.
    usize receive(std::span<const u8> characters);

  private:
    struct State {
        Transport transport;
        std::array<u8, 1024> input{}; // what no buffer was there for
        u32 head = 0, count = 0;
    };

    void notified(unsigned queue) override;
    void device_reset() override;
    void write_config(u64 offset, unsigned size, u64 value) override;
    void deliver();
    [[nodiscard]] bool send(const VirtioChain& chain);

    State state_;
    Sink sink_;
};

} // namespace refhv::monitor
