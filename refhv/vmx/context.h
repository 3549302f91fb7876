/* SPDX-License-Identifier: MIT
 * Offsets into vmx::Context, for enter.S and for the assertions in vcpu.hpp. */
#pragma once
#define VMX_CTX_LAUNCHED 144
#define VMX_CTX_BUDGET 152
#define VMX_EXIT_REASONS 70
#define VMX_CTX_FIELD (VMX_CTX_BUDGET + 8 * VMX_EXIT_REASONS)
#define VMX_CTX_MASK (VMX_CTX_FIELD + 8 * VMX_EXIT_REASONS)
#define VMX_CTX_MATCH (VMX_CTX_MASK + 8 * VMX_EXIT_REASONS)
#define VMX_CTX_LENGTH (VMX_CTX_MATCH + 8 * VMX_EXIT_REASONS)

#define VMCS_EXIT_REASON 0x4402
#define VMCS_EXIT_INSTRUCTION_LENGTH 0x440c
#define VMCS_GUEST_RIP 0x681e
