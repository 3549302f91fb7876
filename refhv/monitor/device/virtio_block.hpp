// SPDX-License-Identifier: MIT
// A virtio disk (virtio 1.2, 5.2) over an image.
#pragma once

#include "refhv/monitor/device/block_image.hpp"
#include "refhv/monitor/device/virtio_mmio.hpp"

namespace refhv::monitor {

class VirtioBlock final : public VirtioMmio {
  public:
    // `image` is the machine's, for its overlay belongs into a snapshot; `serial` is up to 20 characters.
    VirtioBlock(GuestMemory& memory, BlockImage& image, bool read_only, std::string serial, Line interrupt);

    [[nodiscard]] std::span<std::byte> state() override;

  private:
    struct State {
        Transport transport;
    };

    void notified(unsigned queue) override;
    [[nodiscard]] u8 config(u64 offset) const override;
    [[nodiscard]] bool request(const VirtioChain& chain);
    [[nodiscard]] u8 perform(u32 type, u64 sector, const VirtioChain& chain, bool& fault);
    [[nodiscard]] u8 transfer(bool in, u64 sector, u64 length, const VirtioChain& chain, bool& fault);

    State state_;
    BlockImage& image_;
    bool read_only_;
    std::string serial_;
};

} // namespace refhv::monitor
