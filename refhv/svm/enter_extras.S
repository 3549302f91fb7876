/* SPDX-License-Identifier: MIT
 * The SVM world switch with an Extra (refhv/contract/extras.hpp), one function each, with and without host stamps; otherwise
 * that of enter.S. All general registers are saved and restored; the work stands behind every exit and in front of every
 * entry, so C++ finds the host's state. */
#include "refhv/svm/context.h"
#define CTX_WORK SVM_CTX_WORK
#include "refhv/vcpu/extra_macros.inc"
#include "refhv/vcpu/switch_macros.inc"

#define DEVICE_NOT_AVAILABLE 0x47 /* EXITCODE of an intercepted #NM */
#define CR0_TS 8

.macro after_vmexit work
    after_exit \work
    .ifc \work, xsave_lazy
    take_components_away 83f
    mov SVM_CTX_VMCB(%rsp), %rcx
    orq $CR0_TS, VMCB_CR0(%rcx)
83:
    .endif
    .ifc \work, vmsave
    mov CTX_WORK(%rsp), %rbx
    mov WORK_OWN(%rbx), %rax
    vmsave %rax
    .endif
    .ifc \work, vmload_vmsave
    mov CTX_WORK(%rsp), %rbx
    mov WORK_OWN(%rbx), %rax
    vmsave %rax
    mov WORK_OTHER(%rbx), %rax
    vmload %rax
    .endif
.endm

.macro answered work /* RCX is the VMCB */
    .ifc \work, vmcb_clean_none
    movl $0, VMCB_CLEAN_BITS(%rcx)
    .endif
    .ifc \work, vmcb_clean_all
    movl $-1, VMCB_CLEAN_BITS(%rcx) /* APM 2 15.15.3 */
    .endif
.endm

.macro before_vmrun work
    before_entry \work
    .ifc \work, vmload_vmsave
    mov CTX_WORK(%rsp), %rbx
    mov WORK_OWN(%rbx), %rax
    vmload %rax
    .endif
.endm

.macro world_switch name, work, stamped
    .globl \name
    .type \name, @function
\name:
    enter_host_frame
    before_vmrun \work
    .if \stamped
    stamp_last
    .endif
    load_registers
    mov 8(%rsp), %rcx
    mov 16(%rsp), %rdx
    mov SVM_CTX_VMCB_PHYSICAL(%rsp), %rax
1:  vmrun %rax

    mov %rcx, 8(%rsp)
    mov %rdx, 16(%rsp)
    .if \stamped
    stamp 0
    .endif
    save_registers
    after_vmexit \work
    mov SVM_CTX_VMCB(%rsp), %rcx
    mov VMCB_EXIT_CODE(%rcx), %rdx
    cmp $SVM_EXIT_CODES, %rdx
    jae 2f
    .ifc \work, xsave_lazy
    cmp $DEVICE_NOT_AVAILABLE, %edx
    je 5f
    .endif
    decq SVM_CTX_BUDGET(%rsp, %rdx, 8)
    js 2f
    movzbl SVM_CTX_LENGTH(%rsp, %rdx), %edx
    add %rdx, VMCB_RIP(%rcx)
    answered \work
    before_vmrun \work
    .if \stamped
    stamp_last
    .endif
    load_registers
    mov 16(%rsp), %rdx
    mov 8(%rsp), %rcx
    mov SVM_CTX_VMCB_PHYSICAL(%rsp), %rax
    jmp 1b
    .ifc \work, xsave_lazy
5:  bring_components
    mov SVM_CTX_VMCB(%rsp), %rcx
    andq $~CR0_TS, VMCB_CR0(%rcx)
    load_registers
    mov 16(%rsp), %rdx
    mov 8(%rsp), %rcx
    mov SVM_CTX_VMCB_PHYSICAL(%rsp), %rax
    jmp 1b
    .endif
2:  leave_host_frame
    .size \name, . - \name
    beyond_checks \name
.endm

.text
extra_functions
#define X(work) world_switch svm_enter_##work, work, 0; world_switch svm_enter_##work##_stamped, work, 1;
REFHV_SVM_EXTRAS(X)
.section .note.GNU-stack, "", @progbits
