// SPDX-License-Identifier: MIT
// A VM of the targets `self` and `kvm`: memory at the very address where its guest expects it, a state, a
// policy.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/self/kvm/vcpu.hpp"

#include <array>
#include <memory>
#include <span>

namespace refhv::client::self {

// How much guest memory there is for all VMs together: 1 GByte, or half of the machine's memory if that is
// less.
[[nodiscard]] u64 arena_bytes();

// Memory of this process at a fixed address, readable, writable and executable, all of it present.
class GuestMemory {
  public:
    // 0 or the system's error number in `error`; EEXIST if something else is mapped there.
    GuestMemory(u64 address, u64 bytes, int& error);
    GuestMemory(GuestMemory&& other) noexcept;
    GuestMemory& operator=(GuestMemory&& other) = delete;
    ~GuestMemory();

    [[nodiscard]] u64 bytes() const { return bytes_; }
    // `bytes` bytes from `address`; empty if they do not all lie inside (or `bytes` is 0).
    [[nodiscard]] std::span<u8> at(u64 address, u64 bytes) const;
    [[nodiscard]] bool contains(u64 address, u64 bytes) const;
    // From `address` to the end of the memory, at most `most` bytes; empty if it lies outside.
    [[nodiscard]] std::span<const u8> from(u64 address, u64 most) const;

  private:
    u64 address_;
    u64 bytes_;
};

struct Vm {
    GuestMemory memory;
    abi::GuestState state{};
    std::array<abi::PolicyEntry, 64> policy{}; // by Reason; all stop
    std::unique_ptr<kvm::Vcpu> vcpu{};         // mode kvm
};

} // namespace refhv::client::self
