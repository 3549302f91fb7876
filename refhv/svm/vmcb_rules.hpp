// SPDX-License-Identifier: MIT
// Which bytes of the VMCB a request may write and read (APM 2 appendix B; what each does: APM 2 chapter 15).
// A VMCB says what the CPU does to the host, too: a platform that does not permit an item keeps it.
#pragma once

#include "refhv/core/guest_addresses.hpp"
#include "refhv/svm/vmcb.hpp"

namespace refhv::svm {

enum class Access : u8 {
    free,   // any value: the guest's own, or checked by the CPU at VMRUN
    bits,   // those of VmcbRule::argument; the others keep their values
    denied, // none other than it has
};

struct VmcbRule {
    u32 offset, size; // size at most 8 where argument counts
    Access access;
    Permit permit;    // allows what `access` does not
    bool translation; // without nested paging the shadow MMU owns it
    bool secret;      // reading it needs the permission as well
    u64 argument;
};

// The rule of one byte; one that the table does not know is denied.
[[nodiscard]] const VmcbRule& rule_of(u32 offset);

// What a write of `width` bytes at `offset`, both inside the VMCB, has to go through.
[[nodiscard]] Status admit_write(const GuestMemory& memory, const Vmcb& vmcb, u32 offset, u32 width,
                                 u64 value);
[[nodiscard]] Status admit_read(const GuestMemory& memory, u32 offset, u32 width);

} // namespace refhv::svm
