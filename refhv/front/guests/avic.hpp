// SPDX-License-Identifier: MIT
// AVIC (SVM, APM 2 15.29) for a guest in the layout of apic_layout.hpp: its backing page, and the table of
// physical APIC IDs in which it and others stand. Claims and rows share it.
#pragma once

#include "refhv/front/guests/apic_guest.hpp"

namespace refhv::front::avic {

inline constexpr u64 enable = 1u << 31, x2_enable = 1u << 30; // VMCB 60H
// Pages of the guest's: the tables of physical and of logical APIC IDs. The backing page is apic::page.
inline constexpr u64 ids = apic::steps, logical_ids = apic::steps + page_size;
inline constexpr unsigned last_id = 2; // its entry is not valid, and 1 only if some target is

// What the CPU lacks; empty: nothing.
[[nodiscard]] std::string missing(const client::HelloInfo& hello, bool x2 = false);
// The guest is APIC ID 0 of its table, its backing page all zero. `mode`: enable, or both bits.
void virtualize(client::Guest& guest, u64 mode);
// APIC ID 1: the backing page at this host-physical address, and the APIC ID of the CPU where it runs.
void add_target(client::Guest& guest, u64 backing_page, std::optional<u32> runs_at);

} // namespace refhv::front::avic
