// SPDX-License-Identifier: MIT
#include "conformance/exit/uncommon_state.hpp"

#include "conformance/exit/classes.hpp"

namespace refhv::front {

namespace layout = client::layout;

void UncommonState::set(abi::GuestState& s) {
    constexpr u32 accessed_code_or_data = 0x10, present = 0x80, unusable = 0x1'0000;
    for (const auto i : {abi::es, abi::ds, abi::fs, abi::gs}) {
        const u32 rpl = pick(4);
        const u32 dpl = rpl + pick(4 - rpl);
        constexpr u32 types[] = {1, 3, 5, 7, 11};
        s.segment[i] = {.base = i >= abi::fs ? address() : pick(~0u),
                        .limit = 0,
                        .rights = types[pick(5)] | accessed_code_or_data | dpl << 5 | present |
                                  pick(2) << 12 | pick(2) << 14,
                        .selector = static_cast<u16>(pick(0x2000) << 3 | pick(2) << 2 | rpl),
                        .zero = {}};
        set_limit(s.segment[i]);
    }
    s.segment[abi::ldtr] = {.base = address(),
                            .limit = 0,
                            .rights = 2 | present,
                            .selector = static_cast<u16>(pick(0x2000) << 3),
                            .zero = {}};
    set_limit(s.segment[abi::ldtr]);
    if (pick(4) == 0) {
        s.segment[abi::ldtr] = {.base = 0, .limit = 0, .rights = unusable, .selector = 0, .zero = {}};
    }
    s.segment[abi::tr] = {.base = layout::tss,
                          .limit = 0x67 + pick(0x100),
                          .rights = 11 | present | pick(2) << 12,
                          .selector = static_cast<u16>((1 + pick(0x1ffe)) << 3),
                          .zero = {}};
    s.gdtr = {layout::gdt, absent_data + 7u + pick(0x1000), 0};
    s.idtr = {layout::idt, layout::idt_limit + pick(0x4000), 0};
    s.star = u64{pick(~0u)} << 32 | pick(~0u);
    s.lstar = address();
    s.cstar = address();
    s.sfmask = pick(~0u);
    s.kernel_gs_base = address();
    s.sysenter_cs = pick(0xffff);
    s.sysenter_esp = address();
    s.sysenter_eip = address();
}

u64 UncommonState::address() {
    const u64 low = (u64{pick(~0u)} << 32 | pick(~0u)) & 0x7fff'ffff'ffff;
    return pick(2) != 0 ? low : ~low;
}

// In bytes, or in pages.
void UncommonState::set_limit(abi::Segment& s) {
    constexpr u32 granularity = 1u << 15;
    if (pick(2) != 0) {
        s.limit = pick(~0u) | 0xfff;
        s.rights |= granularity;
    } else {
        s.limit = pick(1u << 20);
    }
}

} // namespace refhv::front
