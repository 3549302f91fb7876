// SPDX-License-Identifier: MIT
// Stale translations: a guest uses a page, an entry that maps it changes, something invalidates, the guest
// uses it again. Only a change that must be visible by then can fail. That anything stays cached is never
// demanded, for a CPU may drop any translation at any time (SDM 3A 4.10.2, SDM 3C 29.4.3.4; APM 2 5.5); so
// there is no claim about what an invalidation spares: global pages, other tags, MOV CR3 with bit 63 set,
// guest-physical mappings under INVVPID.
#pragma once

#include "conformance/nested/case.hpp"

namespace refhv::front {

// What happens to an entry that maps TlbInvalidation::page.
enum class Change : u8 {
    moved, // the page is `other` now
    gone,  // there is none
};
inline constexpr Change every_change[] = {Change::moved, Change::gone};
[[nodiscard]] inline const char* name_of(Change change) {
    return change == Change::moved ? "moved" : "gone";
}

class TlbInvalidation : public NestedClaim {
  protected:
    // Two pages: what the guest uses, and what stands in its place afterwards. They hold these values. The
    // third is a table of the guest's that maps `other` where `page` was.
    static constexpr u64 page = client::layout::arena;
    static constexpr u64 other = page + page_size;
    static constexpr u64 other_table = page + 2 * page_size;
    static constexpr u64 old_value = 0x1111, new_value = 0x2222;
    static constexpr u64 table_entry = 0x27, page_entry = 0x67, global = 0x100, page_global_enable = 0x80;

    // A guest whose CPUID ends a run (go_on() steps over it). RSI is `page`.
    static client::Guest guest(client::Plan plan = {});
    // Runs to the next CPUID, or to the stop.
    static client::RunResult begin(client::Guest& guest);
    static client::RunResult go_on(client::Guest& guest);
    // The guest's own entry of `level`, 1 or 2, that maps `page`, and what it becomes.
    [[nodiscard]] static constexpr u64 guest_entry(unsigned level) {
        constexpr u64 offset = page - client::layout::base;
        return level == 1 ? client::layout::page_tables + offset / page_size * 8
                          : client::layout::page_directory + (offset >> 21) * 8;
    }
    [[nodiscard]] static constexpr u64 changed_entry(unsigned level, Change change) {
        return change == Change::gone ? 0 : level == 1 ? other | page_entry : other_table | table_entry;
    }
    static void put(client::Guest& guest, u64 gpa, u64 value) {
        guest.write(gpa, {reinterpret_cast<const u8*>(&value), sizeof value});
    }
    // R8 holds what the guest read first, R9 what it read afterwards, unless that raised #PF.
    static void expect_visible(const client::RunResult& r, Change change);
};

} // namespace refhv::front
