// SPDX-License-Identifier: MIT
// A split virtqueue as its device walks it (virtio 1.2, 2.7). All of it is written by a guest, and believed
// in nothing: whatever the standard forbids a driver makes the queue broken.
#pragma once

#include "refhv/monitor/device/guest_memory.hpp"

#include <vector>

namespace refhv::monitor {

struct VirtqueueState {
    u64 descriptors = 0, available = 0, used = 0; // guest-physical addresses of the three parts
    u16 size = 0;                                 // in descriptors, a power of two
    u16 next = 0;                                 // of the available ring
    u16 done = 0;                                 // idx of the used ring
    u8 ready = 0;
    u8 unused = 0;
};

// One buffer: what the device reads, then what it writes.
struct VirtioChain {
    struct Segment {
        u64 address;
        u32 length;
    };
    using Segments = std::vector<Segment>;

    u16 head = 0;
    Segments readable, writable;
};

[[nodiscard]] u64 length_of(const VirtioChain::Segments& segments);

class Virtqueue {
  public:
    static constexpr u16 most = 256;

    Virtqueue(GuestMemory& memory, VirtqueueState& state, bool indirect)
        : memory_(memory), state_(state), indirect_(indirect) {}

    enum class Next {
        none,
        chain,
        broken
    };
    [[nodiscard]] Next next(VirtioChain& chain);
    // The device has written `written` bytes to it and is done with it. False if the ring is not memory.
    [[nodiscard]] bool finish(const VirtioChain& chain, u32 written);
    // Whether the driver wants to be told of it.
    [[nodiscard]] bool interrupts();

    // `from` or `to` a chain's segments, as if they were one; false if they end before, or are not memory.
    [[nodiscard]] bool copy_in(const VirtioChain::Segments& from, u64 offset, std::span<std::byte> to);
    [[nodiscard]] bool copy_out(const VirtioChain::Segments& to, u64 offset, std::span<const std::byte> from);

  private:
    struct Descriptor {
        u64 address;
        u32 length;
        u16 flags, next;
    };

    [[nodiscard]] bool walk(u64 table, u32 size, u32 index, bool indirect, VirtioChain& chain);
    template <class T>
    [[nodiscard]] bool load(u64 gpa, T& value);

    GuestMemory& memory_;
    VirtqueueState& state_;
    bool indirect_;
};

} // namespace refhv::monitor
