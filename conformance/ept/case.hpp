// SPDX-License-Identifier: MIT
// What the claims of family `ept` share: capabilities, and the oracle of exit qualifications.
#pragma once

#include "conformance/nested/access.hpp"

namespace refhv::front {

class Ept : public NestedClaim {
  protected:
    // VMCS fields (SDM 3D appendix B).
    static constexpr u32 pml_index = 0x0812, pml_address = 0x200e, ept_pointer = 0x201a,
                         secondary_controls = 0x401e;
    // Bits of the EPT pointer (SDM 3C table 25-9) and of entries (tables 29-1 to 29-6).
    static constexpr u64 enable_accessed_dirty = 1u << 6;
    static constexpr u64 accessed = 1u << 8, dirty = 1u << 9;

    // IA32_VMX_EPT_VPID_CAP (SDM 3D A.10).
    [[nodiscard]] static bool offers(unsigned bit) { return (msr(hello(), 0x48c) >> bit & 1) != 0; }
    [[nodiscard]] static bool execute_only() { return offers(0); }
    [[nodiscard]] static bool accessed_dirty() { return offers(21); }
    static constexpr const char* no_accessed_dirty =
        "no accessed and dirty flags for EPT (IA32_VMX_EPT_VPID_CAP bit 21)";
    [[nodiscard]] static bool advanced_information() { return offers(22); }
    // A bit of the secondary processor-based controls that may be 1 (A.3.3).
    [[nodiscard]] static bool offers_secondary(unsigned bit) {
        return (msr(hello(), 0x48b) >> (32 + bit) & 1) != 0;
    }
    // The rights that an entry may have without being misconfigured (SDM 3C 29.3.3.1).
    [[nodiscard]] static std::vector<u32> valid_rights() {
        std::vector<u32> rights{0, may_read, may_read | may_write, may_read | may_execute, may_all};
        if (execute_only()) {
            rights.push_back(may_execute);
        }
        return rights;
    }
    static void turn_on_accessed_dirty(client::Guest& guest) {
        guest.field(ept_pointer, 8, guest.read_field(ept_pointer, 8) | enable_accessed_dirty);
    }

    // What an EPT violation's qualification must be, under a mask of what is defined (SDM 3C table 28-7).
    struct Qualification {
        u64 value, mask;
    };
    // Nothing: the access is allowed. `rights`: the AND of those on the way.
    [[nodiscard]] static std::optional<Qualification> violation(Access access, u32 rights);
    // A walk of the guest's own tables that reads an entry, and sets flags in it if `sets_flags`.
    [[nodiscard]] static std::optional<Qualification> walk_violation(u32 rights, bool sets_flags,
                                                                     bool accessed_dirty);
    // Is the exit of `c` the one that is due?
    static void compare(const AccessList::Case& c, const std::optional<Qualification>& due,
                        u64 guest_physical, const std::string& what, Differences& differences);
};

} // namespace refhv::front
