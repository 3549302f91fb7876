// SPDX-License-Identifier: MIT
// Addresses of guest memory as requests and replies have them in raw fields and entries: host-physical where
// the platform tells these, guest-physical elsewhere. Either way they count from VmCreateReply::hpa_base.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/core/permissions.hpp"

namespace refhv {

[[nodiscard]] inline u64 told_base(const GuestMemory& memory) {
    return platform::permissions().has(Permit::physical_addresses) ? memory.hpa_base : memory.gpa_base;
}

// Are [physical, physical + size) guest memory?
[[nodiscard]] inline bool holds_physical(const GuestMemory& memory, u64 physical, u64 size) {
    return physical >= memory.hpa_base && physical - memory.hpa_base <= memory.bytes() &&
           size <= memory.bytes() - (physical - memory.hpa_base);
}

// Of an address that a client was told; it may lie anywhere.
[[nodiscard]] inline u64 physical_of_told(const GuestMemory& memory, u64 told) {
    return told - told_base(memory) + memory.hpa_base;
}

// Of a physical address inside guest memory; 0 for any other, which is not for a client to know.
[[nodiscard]] inline u64 told_of_physical(const GuestMemory& memory, u64 physical) {
    if (platform::permissions().has(Permit::physical_addresses)) {
        return physical;
    }
    return holds_physical(memory, physical, 1) ? physical - memory.hpa_base + memory.gpa_base : 0;
}

} // namespace refhv
