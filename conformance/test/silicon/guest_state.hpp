// SPDX-License-Identifier: MIT
// A guest as far as the machine looks at one.
#pragma once

#include "conformance/test/silicon/platform.hpp"
#include "refhv/core/backend.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::silicon {

inline constexpr u64 guest_pages = 16, arena_pages = 256;

// In long mode, at ring 0.
[[nodiscard]] inline abi::GuestState long_mode_guest() {
    abi::GuestState s{};
    s.cr0 = x86::cr0::pe | x86::cr0::et | x86::cr0::ne | x86::cr0::wp | x86::cr0::pg;
    s.cr3 = 0x4000'0000;
    s.cr4 = x86::cr4::pae;
    s.efer = x86::efer::lme | x86::efer::lma;
    s.segment[abi::cs].rights = 0xa09b; // 64-bit code
    s.rip = 0x4002'0000;
    s.rflags = 2;
    s.dr6 = 0xffff'0ff0;
    s.dr7 = 0x400;
    s.xcr0 = 1;
    s.pat = 0x0007'0406'0007'0406;
    return s;
}

// Behind the arena.
[[nodiscard]] inline GuestMemory guest_memory() {
    return {.gpa_base = 0x4000'0000,
            .hpa_base = physical_base + arena_pages * page_size,
            .pages = guest_pages,
            .nested_page_size = abi::PageSize::k4,
            .tag_policy = abi::TagPolicy::tagged,
            .slot = 0,
            .mode = abi::Mode::nested};
}

} // namespace refhv::silicon
