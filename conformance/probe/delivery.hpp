// SPDX-License-Identifier: MIT
// What an event does to the guest in each mode: SDM 3A 6.12 to 6.14, 21.1.4 (real mode), 21.3 (virtual-8086
// mode); APM 2 8.7 to 8.9. The handlers are those of machine.hpp, each a HLT.
#pragma once

#include "conformance/probe/due.hpp"

namespace refhv::front {

enum class Gate : u8 {
    interrupt, // of the mode's width: 32 or 64 bits; real mode: the IVT
    trap,
    interrupt16,
    trap16,
};

struct Delivered {
    u8 vector;
    u64 rip; // pushed; in 16-bit frames its low half
    std::optional<u32> error{};
    Gate gate = Gate::interrupt;
};

// The HLT of the handler exits; the frame is on the stack.
[[nodiscard]] Due delivered(const Probe& probe, const Delivered& event, bool on_vmx);
// The IDT entry for `vector` as such a gate; `dpl` of the gate. For real mode: nothing.
[[nodiscard]] std::vector<machine::Piece> gate_of(machine::Kind kind, u8 vector, Gate gate, u8 dpl);

} // namespace refhv::front
