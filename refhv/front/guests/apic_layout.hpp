// SPDX-License-Identifier: MIT
// Where the pages of a guest with a virtual-APIC page stand, in its arena (client/guest/layout.hpp): numbers,
// for guest code needs them; and the registers by their offsets on the page (SDM 3A table 11-1).
#pragma once

#include "refhv/client/guest/layout.hpp"

#define REFHV_APIC_PAGE 0x40400000    // the virtual-APIC page itself, which the guest does not look at
#define REFHV_APIC_ACCESS 0x40401000  // the APIC-access page
#define REFHV_APIC_BITMAP 0x40402000  // MSR bitmaps
#define REFHV_APIC_SPARE 0x40403000   // a page for the claim at hand
#define REFHV_APIC_STEPS 0x40408000   // what the guest is to do, where it is told: 8 pages
#define REFHV_APIC_JOURNAL 0x40410000 // count (8 bytes, padded to 16), then Arrival[]: 16 pages

namespace refhv::front::apic {

inline constexpr u64 page = REFHV_APIC_PAGE, access_page = REFHV_APIC_ACCESS, bitmap = REFHV_APIC_BITMAP,
                     spare_page = REFHV_APIC_SPARE, steps = REFHV_APIC_STEPS, journal = REFHV_APIC_JOURNAL;
inline constexpr u64 arena_pages = 32;
static_assert(page == client::layout::arena);

inline constexpr u32 id = 0x20, version = 0x30, tpr = 0x80, apr = 0x90, ppr = 0xa0, eoi = 0xb0, rrd = 0xc0,
                     ldr = 0xd0, dfr = 0xe0, svr = 0xf0, isr = 0x100, tmr = 0x180, irr = 0x200, esr = 0x280,
                     lvt_cmci = 0x2f0, icr_low = 0x300, icr_high = 0x310, lvt_timer = 0x320,
                     lvt_thermal = 0x330, lvt_performance = 0x340, lvt_lint0 = 0x350, lvt_lint1 = 0x360,
                     lvt_error = 0x370, initial_count = 0x380, current_count = 0x390, divide = 0x3e0,
                     self_ipi = 0x3f0;

} // namespace refhv::front::apic
