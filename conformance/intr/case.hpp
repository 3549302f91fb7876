// SPDX-License-Identifier: MIT
// When a guest is open for an interrupt: one table of guests, and what each vendor offers to ask them. And
// what the claims of families intr and timer need to set raw controls.
#pragma once

#include "conformance/inject/case.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front {

// A guest, and where it becomes open for an interrupt that was pending since its entry.
struct Opening {
    static constexpr u64 never = ~u64{0};

    const char* what;
    client::GuestCode code;
    bool enabled;  // RFLAGS.IF at entry
    bool shadowed; // blocking by STI at entry, or the VMCB's interrupt shadow
    u64 at;        // bytes behind layout::code, or never
    bool nops_only = false;
};

class Intr : public Inject {
  protected:
    static constexpr u64 rflags_if = 1u << 9;

    [[nodiscard]] static std::vector<Opening> openings();
    // Loads the guest and its state; the shadow goes in as a raw field.
    static void prepare(client::Guest& guest, const Opening& opening);

    // Whether all of these control bits may be 1 (SDM 3D A.3).
    [[nodiscard]] static bool offers(u32 control_field, u64 bits);
    // For raw control fields: what the core made of it, with `set` and without `clear`. Once a field and run.
    static void change(client::Guest& guest, u32 field, u64 set, u64 clear = 0);

    // A guest that executes IRET under virtual NMIs, for behind a claim that leaves them blocked: Bochs 2.7
    // carries the blocking from one guest to the next
    // (IntrNmi.vmx_entry_blocks_virtual_nmis_as_its_field_says).
    static void end_nmi_blocking();

    static void expect_exit(const client::RunResult& r, abi::Reason reason, u64 rip);
    static void expect_stopped(const client::RunResult& r);
};

} // namespace refhv::front
