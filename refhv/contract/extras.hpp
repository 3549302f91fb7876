// SPDX-License-Identifier: MIT
// The cost ladder: what a run may do at every exit besides answering it. Part of abi.hpp.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::abi {

// Bit numbers of Run::extras. What is done behind an exit is undone in front of the next entry, so that guest
// and host each find their own state. Mode nested only. Of those that are work of the core's a run takes one;
// the MSR areas, which are the CPU's work, may be together. "Number" is Run::extra_count.
enum class Extra : u8 {
    // All general registers saved and restored, not just those that the exit path uses. Part of every other.
    general_registers = 0,
    // XSAVE of the guest's state components and XRSTOR of the host's, and back. Number: the instruction mask,
    // components of the guest's XCR0 (SDM 1 13.1, 13.7), or all ones for all of them. What is so switched is
    // the VM's own from run to run.
    xsave = 1,
    // The same once the guest needs it: it runs with CR0.TS set; its first use of them is a #NM, which the
    // core takes for itself, and the next exit takes them away again. The guest's own CR0.TS is 0; on SVM a
    // guest that reads CR0 sees the other one. These #NM stand in RunReply::counts, not in `handled` or
    // `entries`.
    xsave_lazy = 2,
    // VMX, the CPU's own lists (SDM 3C 25.7.2, 25.8.2), as many entries as the number says: stored and loaded
    // at VM exit, loaded at VM entry. STAR, LSTAR, CSTAR, SFMASK and KERNEL_GS_BASE in turn.
    msr_exit_store = 3,
    msr_exit_load = 4,
    msr_entry_load = 5,
    msr_by_hand = 6,      // the same three by RDMSR and WRMSR. Number: of MSRs
    spec_ctrl = 7,        // RDMSR and WRMSR of SPEC_CTRL at the exit, WRMSR at the entry
    ibpb = 8,             // WRMSR of PRED_CMD.IBPB at the exit
    verw = 9,             // VERW at the entry, where it clears buffers
    l1d_flush = 10,       // WRMSR of L1D_FLUSH_CMD at the entry
    rsb_fill = 11,        // 32 CALLs at the exit
    indirect_call = 12,   // the exit is dispatched through a pointer: CALL to a RET
    retpoline = 13,       // the same by a retpoline
    vmread = 14,          // VMX: of the exit qualification. Number: how many
    vmwrite = 15,         // VMX: of RIP, which is read once. Number: how many
    vmcs_switch = 16,     // VMX: VMPTRLD of another VMCS and back at the entry
    vmcs_clear = 17,      // VMX: VMCLEAR and VMPTRLD of this VMCS at the entry, which is a VMLAUNCH
    vmcb_clean_none = 18, // SVM: the clean bits are written 0 before an entry behind an answered exit
    vmcb_clean_all = 19,  // SVM: … all ones
    vmsave = 20,          // SVM: VMSAVE of the guest at the exit
    vmload_vmsave = 21,   // SVM: VMSAVE of the guest and VMLOAD of the host, VMLOAD of the guest
    count_ = 22,
};

inline constexpr u32 max_extra_count = 512; // where it counts
inline constexpr u32 all_components = ~u32{0};

[[nodiscard]] constexpr u64 extra_bit(Extra e) {
    return u64{1} << static_cast<u8>(e);
}

static_assert(static_cast<u8>(Extra::count_) <= 64);

} // namespace refhv::abi
