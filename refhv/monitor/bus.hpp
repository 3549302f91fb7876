// SPDX-License-Identifier: MIT
// Where a machine's devices are: ranges of ports, and of guest-physical addresses.
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <vector>

namespace refhv::monitor {

class Bus {
  public:
    // [first, first + count) is the device's, whose own offset of `first` is `offset`. Where two overlap the
    // earlier one answers.
    void attach(u64 first, u64 count, Device& device, u64 offset = 0);

    // An access that no device takes whole is made of bytes, as on a bus; what nobody has reads as all ones.
    [[nodiscard]] u64 read(u64 address, unsigned size) const;
    void write(u64 address, unsigned size, u64 value) const;

  private:
    struct Range {
        u64 first, count, offset;
        Device* device;
    };
    [[nodiscard]] const Range* find(u64 address, u64 size) const;

    std::vector<Range> ranges_;
};

} // namespace refhv::monitor
