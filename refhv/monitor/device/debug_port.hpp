// SPDX-License-Identifier: MIT
// Ports that emulators have for test programs: one to end the machine (QEMU's isa-debug-exit, F4H), one for
// text (port E9H of Bochs, 402H of QEMU's isa-debugcon).
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <utility>

namespace refhv::monitor {

class DebugExit final : public Device {
  public:
    // Takes the code that QEMU would end with.
    using Exit = std::function<void(u32 code)>;
    explicit DebugExit(Exit exit) : exit_(std::move(exit)) {}

    [[nodiscard]] u64 read(u64 /*offset*/, unsigned /*size*/) override { return 0; }
    void write(u64 offset, unsigned /*size*/, u64 value) override {
        if (offset == 0 && exit_) {
            exit_(static_cast<u32>(value << 1 | 1));
        }
    }
    [[nodiscard]] std::span<std::byte> state() override { return {}; }

  private:
    Exit exit_;
};

class DebugConsole final : public Device {
  public:
    using Sink = std::function<void(u8)>;
    explicit DebugConsole(Sink sink) : sink_(std::move(sink)) {}

    // E9H is how a program knows that it is there.
    [[nodiscard]] u64 read(u64 offset, unsigned size) override {
        return offset == 0 ? (all_ones(size) & ~u64{0xff}) | 0xe9 : all_ones(size);
    }
    void write(u64 offset, unsigned /*size*/, u64 value) override {
        if (offset == 0 && sink_) {
            sink_(static_cast<u8>(value));
        }
    }
    [[nodiscard]] std::span<std::byte> state() override { return {}; }

  private:
    Sink sink_;
};

} // namespace refhv::monitor
