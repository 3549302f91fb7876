// SPDX-License-Identifier: MIT
// Guest memory by linear addresses, as the guest's own page tables have it at the exit at hand.
#pragma once

#include "refhv/monitor/vm.hpp"
#include "refhv/shadow/guest_walk.hpp"

namespace refhv::monitor {

class GuestView {
  public:
    GuestView(Vm& vm, const client::HelloInfo& hello);

    // MAXPHYADDR.
    [[nodiscard]] static u8 physical_bits(const client::HelloInfo& hello);

    struct Fault {
        u32 error; // of the #PF
        u64 address;
    };
    // Where it lies, accessed and dirty flags set.
    [[nodiscard]] std::optional<u64> translate(u64 linear, shadow::Access access, Fault& fault);
    // Bytes up to the first that cannot be had; how many.
    [[nodiscard]] usize fetch(u64 linear, std::span<u8> bytes);

    // Between guest memory and `bytes`; false: nothing was copied, and the guest's #PF is `fault`. What is no
    // memory reads as all ones and takes nothing.
    [[nodiscard]] bool copy(u64 linear, std::span<u8> bytes, bool to_guest, Fault& fault);

    // For shadow::walk.
    [[nodiscard]] bool contains(u64 gpa, u64 size) const { return vm_.contains(gpa, size); }
    [[nodiscard]] u64 load(u64 gpa) { return get<u64>(gpa); }
    [[nodiscard]] u32 load32(u64 gpa) { return get<u32>(gpa); }
    [[nodiscard]] bool exchange(u64 gpa, u64 old, u64 fresh) { return put(gpa, old, fresh); }
    [[nodiscard]] bool exchange32(u64 gpa, u32 old, u32 fresh) { return put(gpa, old, fresh); }

  private:
    template <class T>
    T get(u64 gpa) {
        T value{};
        vm_.read(gpa, {reinterpret_cast<u8*>(&value), sizeof value});
        return value;
    }
    // The guest has one CPU, and that stands still.
    template <class T>
    bool put(u64 gpa, T, T fresh) {
        vm_.write(gpa, {reinterpret_cast<const u8*>(&fresh), sizeof fresh});
        return true;
    }

    Vm& vm_;
    shadow::PagingState paging_{};
    bool user_;
};

} // namespace refhv::monitor
