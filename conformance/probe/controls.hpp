// SPDX-License-Identifier: MIT
// Controls of a whole vendor at once, as far as the capabilities go.
#pragma once

#include "conformance/probe/prober.hpp"

namespace refhv::front {

// Bits 0 and 1 of IA32_VMX_CR0_FIXED0 and so on: what must be 1, what may be 1.
[[nodiscard]] u64 vmx_cr_fixed0(const client::HelloInfo& hello, unsigned cr);
[[nodiscard]] u64 vmx_cr_fixed1(const client::HelloInfo& hello, unsigned cr);

// Every instruction that a control or an intercept can make exit, exits. VMX: CR0 and CR4 are left to their
// masks.
[[nodiscard]] std::vector<RawField> every_instruction_exits(Prober& prober, const client::HelloInfo& hello,
                                                            bool on_vmx);

} // namespace refhv::front
