// SPDX-License-Identifier: MIT
// CPU states in which kernels begin.
#pragma once

#include "refhv/monitor/vm.hpp"

namespace refhv::monitor {

// As real firmware leaves it, at a linear address below 1 MByte: CS holds what does not fit into IP.
[[nodiscard]] abi::GuestState real_state(u64 address);
// Flat segments of 4 GBytes, no paging, interrupts off: Multiboot and PVH.
[[nodiscard]] abi::GuestState protected_state(u32 entry);
// 64-bit mode on the tables of map_identity(), flat segments with selectors 10H and 18H: Linux.
[[nodiscard]] abi::GuestState long_state(u64 entry);

// Page tables for the first 4 GBytes, one to one, and the GDT that the states above name.
void map_identity(Vm& vm);
void place_gdt(Vm& vm);

// Throws BadImage where the VM cannot begin as its state says: VMX without unrestricted guests.
void need_mode(const Vm& vm);

} // namespace refhv::monitor
