/* SPDX-License-Identifier: MIT
 * The VMX world switch with an Extra (refhv/contract/extras.hpp), one function each, with and without host stamps; otherwise
 * that of enter.S. All general registers are saved and restored; the work stands behind every exit and in front of every
 * entry, so C++ finds the host's state. */
#include "refhv/vmx/context.h"
#define CTX_WORK VMX_CTX_WORK
#include "refhv/vcpu/extra_macros.inc"
#include "refhv/vcpu/switch_macros.inc"

#define DEVICE_NOT_AVAILABLE 0x80000307 /* valid, hardware exception, vector 7 (SDM 3C table 25-18) */
#define CR0_TS 8

.macro after_vm_exit work
    after_exit \work
    .ifc \work, xsave_lazy
    take_components_away 83f
    mov $VMCS_GUEST_CR0, %eax
    vmread %rax, %rdx
    or $CR0_TS, %rdx
    vmwrite %rdx, %rax
83:
    .endif
    .ifc \work, vmread
    mov CTX_WORK(%rsp), %rbx
    mov WORK_COUNT(%rbx), %ecx
    mov $VMCS_EXIT_QUALIFICATION, %eax
81: vmread %rax, %rdx
    dec %ecx
    jnz 81b
    .endif
    .ifc \work, vmwrite
    mov CTX_WORK(%rsp), %rbx
    mov WORK_COUNT(%rbx), %ecx
    mov $VMCS_GUEST_RIP, %eax
    vmread %rax, %rdx
82: vmwrite %rdx, %rax
    dec %ecx
    jnz 82b
    .endif
.endm

.macro before_vm_entry work
    before_entry \work
    .ifc \work, vmcs_switch
    mov CTX_WORK(%rsp), %rbx
    vmptrld WORK_OTHER(%rbx)
    vmptrld WORK_OWN(%rbx)
    .endif
    .ifc \work, vmcs_clear
    mov CTX_WORK(%rsp), %rbx
    vmclear WORK_OWN(%rbx)
    vmptrld WORK_OWN(%rbx)
    .endif
.endm

.macro world_switch name, work, stamped
    .globl \name, \name\()_exit
    .type \name, @function
\name:
    enter_host_frame
    before_vm_entry \work
    .if \stamped
    stamp_last
    .endif
    .ifc \work, vmcs_clear
    test %rsp, %rsp /* a VMCS that is clear is launched, always */
    .else
    cmpb $1, VMX_CTX_LAUNCHED(%rsp)
    .endif
    load_registers
    load_scratch
    jne 1f
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
    save_registers
    after_vm_exit \work
    mov $VMCS_EXIT_REASON, %eax
    vmread %rax, %rax
    cmp $VMX_EXIT_REASONS, %eax
    jae 2f
    .ifc \work, xsave_lazy
    test %eax, %eax
    jz 5f
6:
    .endif
    decq VMX_CTX_BUDGET(%rsp, %rax, 8)
    js 2f
    mov $VMCS_EXIT_INSTRUCTION_LENGTH, %eax
    vmread %rax, %rcx
    mov $VMCS_GUEST_RIP, %eax
    vmread %rax, %rdx
    add %rdx, %rcx
    vmwrite %rcx, %rax
    before_vm_entry \work
    .if \stamped
    stamp_last
    .endif
    load_registers
    load_scratch
    .ifc \work, vmcs_clear
    vmlaunch
    .else
    vmresume
    .endif
    .ifc \work, xsave_lazy
    jmp 3f
5:  mov $VMCS_EXIT_INTERRUPTION_INFO, %ecx
    vmread %rcx, %rcx
    mov $DEVICE_NOT_AVAILABLE, %edx
    cmp %edx, %ecx
    jne 6b
    bring_components
    mov $VMCS_GUEST_CR0, %eax
    vmread %rax, %rdx
    and $~CR0_TS, %rdx
    vmwrite %rdx, %rax
    load_registers
    load_scratch
    vmresume
    .endif
3:  mov $1, %r15d /* the entry failed: CF says VMfailInvalid */
    adc $0, %r15d
    after_vm_exit \work
    mov %r15d, %eax
    jmp 4f
2:  xor %eax, %eax
4:  leave_host_frame
    .size \name, . - \name
    beyond_checks \name
.endm

.text
extra_functions
#define X(work) world_switch vmx_enter_##work, work, 0; world_switch vmx_enter_##work##_stamped, work, 1;
REFHV_VMX_EXTRAS(X)
.section .note.GNU-stack, "", @progbits
