/* SPDX-License-Identifier: MIT
 * The VMX world switch: u32 vmx_enter(Context*), and the same with host stamps, with filters, with both.
 * Returns 0 after a VM exit that C++ must look at, 1 for VMfailValid, 2 for VMfailInvalid (SDM 3C 31.2).
 * HOST_RSP is the Context, HOST_RIP the matching _exit label. While the guest runs RSP is no stack: NMIs go to an IST,
 * interrupts are off. An exit whose reason has budget left is answered right here: step over the instruction and
 * resume. That path is the reference that every exit latency is measured against; nothing in it is there for comfort.
 * With filters the answer also needs a masked field to match (which CR, IN or OUT, which exception), and the number of
 * bytes to step over may be the policy's: a reason that needs neither is better served without. */
#include "refhv/vmx/context.h"
#include "refhv/vcpu/switch_macros.inc"

.macro world_switch name, stamped, filtered
    .globl \name, \name\()_exit
    .type \name, @function
\name:
    enter_host_frame
    cmpb $0, VMX_CTX_LAUNCHED(%rsp)
    load_registers
    .if \stamped
    stamp_last
    .endif
    load_scratch
    jz 1f
    vmresume
    jmp 3f
1:  vmlaunch
    jmp 3f

\name\()_exit:
    mov %rax, (%rsp)
    mov %rcx, 8(%rsp)
    mov %rdx, 16(%rsp)
    .if \stamped
    stamp 0
    .endif
    mov $VMCS_EXIT_REASON, %eax
    vmread %rax, %rax
    cmp $VMX_EXIT_REASONS, %eax
    jae 2f
    .if \filtered
    mov VMX_CTX_FIELD(%rsp, %rax, 8), %rcx
    vmread %rcx, %rcx
    and VMX_CTX_MASK(%rsp, %rax, 8), %rcx
    cmp VMX_CTX_MATCH(%rsp, %rax, 8), %rcx
    jne 2f
    .endif
    decq VMX_CTX_BUDGET(%rsp, %rax, 8)
    js 2f
    .if \filtered
    mov VMX_CTX_LENGTH(%rsp, %rax, 8), %rcx
    test %rcx, %rcx
    jns 5f
    .endif
    mov $VMCS_EXIT_INSTRUCTION_LENGTH, %eax
    vmread %rax, %rcx
5:  mov $VMCS_GUEST_RIP, %eax
    vmread %rax, %rdx
    add %rdx, %rcx
    vmwrite %rcx, %rax
    .if \stamped
    stamp_last
    .endif
    load_scratch
    vmresume
    jmp 3f
2:  save_registers
    xor %eax, %eax
    jmp 4f
3:  mov $1, %eax /* the entry failed: CF says VMfailInvalid */
    adc $0, %eax
4:  leave_host_frame
    .size \name, . - \name
    beyond_checks \name
.endm

.text
world_switch vmx_enter, 0, 0
world_switch vmx_enter_stamped, 1, 0
world_switch vmx_enter_filtered, 0, 1
world_switch vmx_enter_stamped_filtered, 1, 1
.section .note.GNU-stack, "", @progbits
