// SPDX-License-Identifier: MIT
// Refused VM entries are data: a control or a piece of guest state is spoilt through field_write, and the
// run's outcome must be what the manual says. Afterwards the same target must run a good guest as if nothing
// had been.
#pragma once

#include "refhv/front/claim.hpp"

namespace refhv::front {

struct SpoiltField {
    u32 field; // VMCS encoding or VMCB offset
    u32 width; // bytes, VMCB only
    u64 set = 0;
    u64 clear = 0;
};

class EntryFailure : public Claim {
  protected:
    // Reads the fields as the core would run them, spoils them, runs.
    client::RunResult run_spoilt(std::initializer_list<SpoiltField> fields);
    void expect_healthy();

    // VMLAUNCH or VMRESUME fails with this VM-instruction error.
    void expect_instruction_error(std::initializer_list<SpoiltField> fields, u32 error);
    // The entry fails after it began, with this basic exit reason and qualification.
    void expect_entry_failure(std::initializer_list<SpoiltField> fields, u32 reason, u64 qualification);
    void expect_vmexit_invalid(std::initializer_list<SpoiltField> fields);
};

} // namespace refhv::front
