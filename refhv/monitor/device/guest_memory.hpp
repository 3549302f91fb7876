// SPDX-License-Identifier: MIT
// What a device that reads and writes a guest's memory by itself knows of it.
#pragma once

#include "refhv/contract/types.hpp"

#include <span>

namespace refhv::monitor {

class GuestMemory {
  public:
    GuestMemory() = default;
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    virtual ~GuestMemory() = default;

    // All of it, or nothing and false: where there is no memory, addresses that wrap included.
    [[nodiscard]] virtual bool read(u64 gpa, std::span<std::byte> to) = 0;
    [[nodiscard]] virtual bool write(u64 gpa, std::span<const std::byte> from) = 0;
};

} // namespace refhv::monitor
