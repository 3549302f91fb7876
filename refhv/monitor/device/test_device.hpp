// SPDX-License-Identifier: MIT
// What test kernels of other hypervisors expect beside a PC, as QEMU's pc-testdev has it: a register at ports
// E0H and E8H, 24 interrupt lines at ports 2000H to 2017H, and 64 KBytes of registers that are memory at
// FF000000H. The port at E4H, which has QEMU map a page anew, does nothing.
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <array>
#include <cstring>

namespace refhv::monitor {

// Where each part lies among its offsets.
class TestDevice final : public Device {
  public:
    static constexpr u64 data = 0, flush = 4, lines = 8, memory = 0x1'0000; // offsets
    static constexpr u64 line_count = 24, memory_bytes = 0x1'0000;

    explicit TestDevice(std::function<void(unsigned line, bool level)> raise) : raise_(std::move(raise)) {}

    [[nodiscard]] u64 read(u64 offset, unsigned size) override {
        const std::span<u8> bytes = bytes_at(offset, size);
        u64 value = bytes.empty() ? all_ones(size) : 0;
        std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }
    void write(u64 offset, unsigned size, u64 value) override {
        if (offset >= lines && offset - lines < line_count) {
            raise_(static_cast<unsigned>(offset - lines), value != 0);
            return;
        }
        const std::span<u8> bytes = bytes_at(offset, size);
        std::memcpy(bytes.data(), &value, bytes.size());
    }
    [[nodiscard]] std::span<std::byte> state() override {
        return std::as_writable_bytes(std::span(&state_, 1));
    }

  private:
    struct State {
        std::array<u8, 4> data{};
        std::array<u8, memory_bytes> memory{};
    };

    // Of a register or of the memory, where the access lies inside of it.
    [[nodiscard]] std::span<u8> bytes_at(u64 offset, unsigned size) {
        if (offset < state_.data.size() && size <= state_.data.size() - offset) {
            return std::span(state_.data).subspan(offset, size);
        }
        if (offset >= memory && offset - memory < memory_bytes && size <= memory_bytes - (offset - memory)) {
            return std::span(state_.memory).subspan(offset - memory, size);
        }
        return {};
    }

    State state_;
    std::function<void(unsigned, bool)> raise_;
};

} // namespace refhv::monitor
