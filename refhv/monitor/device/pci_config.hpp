// SPDX-License-Identifier: MIT
// PCI configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2) at CF8H to CFFH with no device behind it, and
// the reset control register at CF9H (Intel 290562).
#pragma once

#include "refhv/monitor/device/bytes.hpp"
#include "refhv/monitor/device/device.hpp"

#include <utility>

namespace refhv::monitor {

class PciConfig final : public Device {
  public:
    explicit PciConfig(std::function<void()> reset) : reset_(std::move(reset)) {}

    [[nodiscard]] u64 read(u64 offset, unsigned size) override {
        if (offset == 0 && size == 4) {
            return state_.address;
        }
        return read_bytes(offset, size,
                          [&](u64 at) { return at == reset_control ? state_.reset : u8{0xff}; });
    }
    void write(u64 offset, unsigned size, u64 value) override {
        if (offset == 0 && size == 4) {
            state_.address = static_cast<u32>(value) & 0x80ff'fffc;
        } else if (offset == reset_control && size == 1) {
            const bool rises = (value & 4) != 0 && (state_.reset & 4) == 0;
            state_.reset = value & 0xe;
            if (rises && reset_) {
                reset_();
            }
        }
    }
    [[nodiscard]] std::span<std::byte> state() override { return bytes_of(state_); }

  private:
    static constexpr u64 reset_control = 1;
    struct State {
        u32 address = 0;
        u8 reset = 0;
        u8 unused[3] = {};
    };

    State state_;
    std::function<void()> reset_;
};

} // namespace refhv::monitor
