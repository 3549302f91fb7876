// SPDX-License-Identifier: MIT
// Accesses of a guest to its APIC-access page, many in one run: what each read, and which exits each made.
#pragma once

#include "conformance/apic/case.hpp"

namespace refhv::front {

// An access by a MOV of 8 << size bits.
struct ApicAccess {
    u32 offset;
    u8 size; // 0 to 3: 1, 2, 4 or 8 bytes
    bool is_write;
    [[nodiscard]] u32 bytes() const { return 1u << size; }
};
std::ostream& operator<<(std::ostream& out, const ApicAccess& access);

// What is due: the access is virtualized, or it exits (SDM 3C 30.4.2, 30.4.3).
struct ApicOutcome {
    abi::Reason reason = abi::Reason::none; // apic_access, apic_write, virtualized_eoi; none: no exit
    u64 qualification = 0;
    u64 value = 0; // of a read that is virtualized
    [[nodiscard]] bool operator==(const ApicOutcome&) const = default;
};
std::ostream& operator<<(std::ostream& out, const ApicOutcome& outcome);

class ApicAccesses : public Apic {
  protected:
    // What each write writes, and what RAX holds before a read.
    static constexpr u64 written = 0x5152'5354'5556'5758, before_read = 0x7172'7374'7576'7778;

    // The guest with these accesses to come, its controls not set yet.
    [[nodiscard]] static client::Guest prepare(const std::vector<ApicAccess>& accesses);
    // Runs it. Each access that exits without being virtualized is stepped over.
    [[nodiscard]] static std::vector<ApicOutcome> outcomes(client::Guest& guest,
                                                           const std::vector<ApicAccess>& accesses);

    // SDM 3C table 28-6: offset, and the access type in bits 15:12.
    static constexpr u64 qualification_of(const ApicAccess& a) {
        return a.offset | (a.is_write ? 1u << 12 : 0u);
    }
    [[nodiscard]] static constexpr ApicOutcome exits(const ApicAccess& a) {
        return {abi::Reason::apic_access, qualification_of(a), 0};
    }
    // Inside the low 4 bytes of 16, and not wider than those (SDM 3C 30.4.2, 30.4.3).
    [[nodiscard]] static constexpr bool within_register(const ApicAccess& a) {
        return a.offset % 16 + (1u << a.size) <= 4;
    }
    // Of every register's offset and of those between, every size that stays on the page.
    [[nodiscard]] static std::vector<ApicAccess> every_access(bool is_write);
    // The lists of offsets of SDM 3C 30.4.2 (reads) and 30.4.3.1 (writes) under APIC-register virtualization.
    [[nodiscard]] static bool is_virtual_register(u32 offset, bool is_write);
};

} // namespace refhv::front
