// SPDX-License-Identifier: MIT
// ELF executables of both classes, as far as boot protocols need them.
#pragma once

#include "refhv/monitor/boot/layout.hpp"

namespace refhv::monitor {

class Elf {
  public:
    struct Segment {
        u64 physical, offset, file_bytes, memory_bytes;
    };
    // Nothing: no x86 executable. Throws BadImage if it is one and broken.
    [[nodiscard]] static std::optional<Elf> parse(std::span<const u8> file);

    [[nodiscard]] u64 entry() const { return entry_; } // physical, where the entry lies in a segment
    [[nodiscard]] std::optional<u32> pvh_entry() const { return pvh_entry_; }
    // Copies its segments; what is beyond their bytes is zero. Throws BadImage.
    void place(Vm& vm) const;
    // The first byte behind all segments.
    [[nodiscard]] u64 end() const;

  private:
    std::span<const u8> file_;
    std::vector<Segment> segments_;
    u64 entry_ = 0;
    std::optional<u32> pvh_entry_;

    template <class Header, class Program>
    static std::optional<Elf> read(std::span<const u8> file);
    void read_notes(u64 at, u64 bytes);
};

} // namespace refhv::monitor
