/* SPDX-License-Identifier: MIT
 * The SVM world switch: void svm_enter(Context*), and the same with host stamps, with filters, with both.
 * Called with GIF clear and the guest's VMLOAD state loaded. VMRUN saves the host's RSP and RAX and #VMEXIT brings them
 * back (APM 2 15.5, 15.6), so RSP is the Context all along and RAX the VMCB's physical address. GIF stays clear, so no
 * NMI finds this stack. An exit whose code has budget left is answered right here: step over the instruction and run
 * again. That path is the reference that every exit latency is measured against; nothing in it is there for comfort.
 * With filters the answer also needs EXITINFO1 to match under a mask (IN or OUT, RDMSR or WRMSR). */
#include "refhv/svm/context.h"
#include "refhv/vcpu/switch_macros.inc"

.macro world_switch name, stamped, filtered
    .globl \name
    .type \name, @function
\name:
    enter_host_frame
    load_registers
    .if \stamped
    stamp_last
    .endif
    mov 8(%rsp), %rcx
    mov 16(%rsp), %rdx
    mov SVM_CTX_VMCB_PHYSICAL(%rsp), %rax
1:  vmrun %rax

    mov %rcx, 8(%rsp)
    mov %rdx, 16(%rsp)
    .if \stamped
    stamp 0
    .endif
    mov SVM_CTX_VMCB(%rsp), %rcx
    mov VMCB_EXIT_CODE(%rcx), %rdx
    cmp $SVM_EXIT_CODES, %rdx
    jae 2f
    .if \filtered
    mov VMCB_EXIT_INFO_1(%rcx), %rax
    and SVM_CTX_MASK(%rsp, %rdx, 8), %rax
    cmp SVM_CTX_MATCH(%rsp, %rdx, 8), %rax
    mov SVM_CTX_VMCB_PHYSICAL(%rsp), %rax
    jne 2f
    .endif
    decq SVM_CTX_BUDGET(%rsp, %rdx, 8)
    js 2f
    movzbl SVM_CTX_LENGTH(%rsp, %rdx), %edx
    add %rdx, VMCB_RIP(%rcx)
    .if \stamped
    stamp_last
    mov SVM_CTX_VMCB_PHYSICAL(%rsp), %rax
    .endif
    mov 16(%rsp), %rdx
    mov 8(%rsp), %rcx
    jmp 1b
2:  save_registers
    leave_host_frame
    .size \name, . - \name
    beyond_checks \name
.endm

.text
world_switch svm_enter, 0, 0
world_switch svm_enter_stamped, 1, 0
world_switch svm_enter_filtered, 0, 1
world_switch svm_enter_stamped_filtered, 1, 1
.section .note.GNU-stack, "", @progbits
