// SPDX-License-Identifier: MIT
// Stale translations: a guest uses a page, something changes, something invalidates, the guest uses it again.
// Only a change that must be visible by then can fail; that anything stays cached is never demanded, for a
// CPU may drop any translation at any time (SDM 3C 29.4.2; APM 2 5.5).
#pragma once

#include "conformance/nested_case.hpp"

namespace refhv::front {

class TlbInvalidation : public NestedClaim {
  protected:
    // Two pages: what the guest uses, and what stands in its place afterwards. They hold these values.
    static constexpr u64 page = client::layout::arena;
    static constexpr u64 other = client::layout::arena + page_size;
    static constexpr u64 old_value = 0x1111, new_value = 0x2222;

    // A guest whose CPUID ends a run (go_on() steps over it), with both pages filled.
    static client::Guest guest(client::Plan plan = {});
    // Runs to the next CPUID, or to the stop.
    static client::RunResult begin(client::Guest& guest);
    static client::RunResult go_on(client::Guest& guest);
    // The entry of the guest's own page table that maps `gpa`.
    [[nodiscard]] static constexpr u64 guest_entry(u64 gpa) {
        return client::layout::page_tables + (gpa - client::layout::base) / page_size * 8;
    }
};

} // namespace refhv::front
