// SPDX-License-Identifier: MIT
// An access to a device's memory, carried out: the instruction at RIP, decoded by Zydis, as far as it is one
// of the kinds that drivers use for registers of devices. What is not among them is refused by name.
#pragma once

#include "refhv/monitor/bus.hpp"
#include "refhv/monitor/guest_view.hpp"

#include <string>

namespace refhv::monitor {

struct MmioResult {
    std::string refused; // empty: done, and RIP is behind it (before it while a REP goes on)
    std::optional<GuestView::Fault> fault; // the instruction's other operand is not there
};

// `gpa`: where the access went, from the exit.
[[nodiscard]] MmioResult emulate_mmio(Vm& vm, GuestView& view, const Bus& memory, u64 gpa);

} // namespace refhv::monitor
