// SPDX-License-Identifier: MIT
// The pointer chase of page_chase.hpp inside a guest, which makes the chain itself: in pages of a size asked
// for, above nested pages of a size asked for.
#pragma once

#include "refhv/client/guest/vm.hpp"
#include "refhv/front/guests/page_chase.hpp"

namespace refhv::front {

inline constexpr u32 most_guest_lines = 16384;
inline constexpr u32 chase_accesses = 2048; // a round

struct GuestChase {
    abi::Mode mode;
    abi::PageSize page;                            // of the guest
    abi::PageSize nested_page = abi::PageSize::k4; // mode nested; elsewhere what lets `page` be
    Layout layout = Layout::spread;
    u32 lines = 0;
};

// Loops of rounds of chase_accesses each. Beforehand the guest draws one cycle through all lines (Sattolo),
// links them and walks the chain once; if that does not lead through so many lines, it ends in #UD.
[[nodiscard]] client::SampledGuest chase_code(Layout layout);

void plan_chase(const GuestChase& chase, client::Plan& plan);
// The guest's page tables of the chase, and the registers that its code wants. `flags`: A and D of the
// entries that map pages.
void build_chase(const GuestChase& chase, client::Guest& guest, u64 flags = 0x60);

// Where the entries that map the chase's pages lie, and how many there are.
struct Entries {
    u64 gpa, count;
};
[[nodiscard]] Entries entries_of(const GuestChase& chase);

} // namespace refhv::front
