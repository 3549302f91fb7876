// SPDX-License-Identifier: MIT
// Which VMCS fields a request may write and read (SDM 3D appendix B; what each does: SDM 3C chapter 25). A
// VMCS says what the CPU does to the host, too: a platform that does not permit an item keeps it.
#pragma once

#include "refhv/core/guest_addresses.hpp"
#include "refhv/vmx/fields.hpp"

namespace refhv::vmx {

enum class Access : u8 {
    free,   // any value: the guest's own, or checked by the CPU at the entry
    bits,   // those of FieldRule::argument; the others keep their values
    memory, // the address of so many bytes of guest memory, at a multiple of as many
    denied,
};

struct FieldRule {
    u32 first, last; // encodings of the full fields, bit 0 left out
    Access access;
    Permit permit;    // allows what `access` does not
    bool translation; // without nested paging the shadow MMU owns it
    bool secret;      // reading it needs the permission as well
    u64 argument;
};

// The rule of an encoding; one that the table does not know is denied.
[[nodiscard]] const FieldRule& rule_of(u32 encoding);

// A control that makes the CPU use the address in a field: that has to be guest memory first.
struct ControlAddress {
    Field controls;
    u32 bit;
    Field address;
};
inline constexpr ControlAddress control_addresses[] = {
    {Field::pin_based_controls, pin::posted_interrupts, Field::posted_interrupt_descriptor},
    {Field::proc_based_controls, proc::tpr_shadow, Field::virtual_apic_address},
    {Field::secondary_controls, proc2::virtual_apic_accesses, Field::apic_access_address},
    {Field::secondary_controls, proc2::pml, Field::pml_address},
    {Field::secondary_controls, proc2::virtualization_exceptions, Field::ve_information_address},
};

// What a write of this field has to go through; `value` becomes what is to be written. `current` reads a
// field.
template <class Read>
[[nodiscard]] Status admit_write(const GuestMemory& memory, u32 encoding, u64& value, Read current) {
    const Permissions permitted = platform::permissions();
    const FieldRule& rule = rule_of(encoding);
    const bool nested = memory.mode == abi::Mode::nested;
    if (rule.translation && !nested && !permitted.has(Permit::translations)) {
        return refuse(Permit::translations);
    }
    if (rule.access == Access::free || permitted.has(rule.permit)) {
        return {};
    }
    const bool high_half = (encoding & 1) != 0;
    if (high_half || rule.access == Access::denied) {
        return refuse(rule.permit);
    }
    if (rule.access == Access::memory) {
        const u64 physical = physical_of_told(memory, value);
        if (physical % rule.argument != 0 || !holds_physical(memory, physical, rule.argument)) {
            return refuse(rule.permit);
        }
        value = physical;
        return {};
    }
    const u64 wanted = value & width_mask(encoding), had = current(encoding);
    if (((wanted ^ had) & ~rule.argument) != 0) {
        return refuse(rule.permit);
    }
    for (const ControlAddress& c : control_addresses) {
        if (static_cast<u32>(c.controls) == encoding && (wanted & ~had & c.bit) != 0 &&
            !holds_physical(memory, current(static_cast<u32>(c.address)), 1)) {
            return refuse(abi::Outcome::bad_request, "the control's address comes first: guest memory");
        }
    }
    return {};
}

// May this field be read? `value`, read from it, becomes what is told.
[[nodiscard]] inline Status admit_read(const GuestMemory& memory, u32 encoding, u64& value) {
    const Permissions permitted = platform::permissions();
    const FieldRule& rule = rule_of(encoding);
    const bool nested = memory.mode == abi::Mode::nested;
    const bool high_half = (encoding & 1) != 0;
    if (rule.translation && !nested && !permitted.has(Permit::translations)) {
        return refuse(Permit::translations);
    }
    if ((rule.secret || (rule.access == Access::memory && high_half)) && !permitted.has(rule.permit)) {
        return refuse(rule.permit);
    }
    if (rule.access == Access::memory) {
        value = told_of_physical(memory, value);
    }
    return {};
}

} // namespace refhv::vmx
