// SPDX-License-Identifier: MIT
// Runs a guest of KVM until an exit that comes to user space and that the policy does not answer.
//
// Most VM exits KVM answers itself; they are counted (RunReply::entries), not seen. What comes to us: HLT,
// accesses to ports, accesses to addresses without memory (Reason::nested_violation), and a shutdown
// (triple_fault). Reads of ports and of such memory give all ones. `Exit::raw_reason` is KVM's exit_reason.
#pragma once

#include "refhv/self/run.hpp"

namespace refhv::client::self::kvm {

// As self::run_guest; vm.vcpu is there. Throws Unusable where KVM refuses the state. A KVM that fails inside
// gives Outcome::entry_refused with the hardware's or KVM's number in Refusal::qualification.
[[nodiscard]] RunResult run_guest(Vm& vm, const abi::Run& run, u64 tsc_hz);

} // namespace refhv::client::self::kvm
