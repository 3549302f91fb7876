// SPDX-License-Identifier: MIT
// What the claims of family `npt` share: rights as bits of an entry, and the oracle of EXITINFO1.
#pragma once

#include "conformance/nested/access.hpp"

namespace refhv::front {

class Npt : public NestedClaim {
  protected:
    // Bits of an entry (APM 2 5.4.1).
    static constexpr u64 p = 1u << 0, rw = 1u << 1, us = 1u << 2, large = 1u << 7, nx = u64{1} << 63;
    static constexpr u64 accessed = 1u << 5, dirty = 1u << 6;
    static constexpr u64 rights_bits = p | rw | us | nx;

    // Not present, and the eight ways to be present.
    [[nodiscard]] static std::vector<u64> every_rights();
    // What entries on the way to a page allow together.
    [[nodiscard]] static constexpr u64 joined(u64 a, u64 b) {
        return (a & b & (p | rw | us)) | ((a | b) & nx);
    }
    [[nodiscard]] static std::string text_of(u64 rights);
    [[nodiscard]] static unsigned physical_bits() { return cpuid(hello(), 0x8000'0008, 0, 0) & 0xff; }
    [[nodiscard]] static bool offers_1g() { return (cpuid(hello(), 0x8000'0001, 0, 3) >> 26 & 1) != 0; }

    // EXITINFO1 of a nested page fault, under a mask of what is defined (APM 2 15.25.6).
    struct Information {
        u64 value, mask;
    };
    static constexpr u64 of_final_address = u64{1} << 32, of_guest_table = u64{1} << 33;
    // Nothing: the access is allowed. All nested accesses are user accesses.
    [[nodiscard]] static std::optional<Information> fault(Access access, u64 rights);
    // A walk of the guest's own tables: a data write, whatever it is for.
    [[nodiscard]] static std::optional<Information> walk_fault(u64 rights);
    static void compare(const AccessList::Case& c, const std::optional<Information>& due, u64 guest_physical,
                        const std::string& what, Differences& differences);
};

} // namespace refhv::front
