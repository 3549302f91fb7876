// SPDX-License-Identifier: MIT
// What a device is to the machine monitor: registers that a guest reads and writes, and moments at which it
// acts by itself.
#pragma once

#include "refhv/contract/types.hpp"

#include <functional>
#include <optional>
#include <span>

namespace refhv::monitor {

// Nanoseconds of the machine's own clock, which stands while the machine is paused.
using Time = u64;

// An interrupt line of a device: true raises it, false lowers it. Same level again: nothing.
using Line = std::function<void(bool level)>;

class Device {
  public:
    Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    virtual ~Device() = default;

    // A guest's access at `offset` from where the device begins; `size` is 1, 2, 4 or 8 bytes, and whatever a
    // guest asks is answered: what a register does not have reads as all ones and takes no write.
    [[nodiscard]] virtual u64 read(u64 offset, unsigned size) = 0;
    virtual void write(u64 offset, unsigned size, u64 value) = 0;

    // The machine's clock has come to `now`; it never goes back.
    virtual void pass(Time /*now*/) {}
    // When it next acts by itself, if it does.
    [[nodiscard]] virtual std::optional<Time> due() const { return {}; }

    // Its registers, for a snapshot: a trivially copyable object that holds no pointer. What has been copied
    // out may be copied back in, into another device of the same kind; restored() is then called.
    [[nodiscard]] virtual std::span<std::byte> state() = 0;
    virtual void restored() {}
};

// What all devices answer where there is no register.
[[nodiscard]] constexpr u64 all_ones(unsigned size) {
    return size >= 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1;
}

} // namespace refhv::monitor
