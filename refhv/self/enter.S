/* SPDX-License-Identifier: MIT */
/* void refhv_self_enter(void): loads the registers of refhv_self_frame and jumps to its RIP. Returns once a signal
 * handler has sent the process to refhv_self_leave. */
#include "refhv/self/frame.h"

    .hidden refhv_self_frame
    .hidden refhv_self_enter
    .hidden refhv_self_jump
    .hidden refhv_self_leave
    .globl refhv_self_enter
    .globl refhv_self_jump
    .globl refhv_self_leave

    .text
    .type refhv_self_enter, @function
refhv_self_enter:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, refhv_self_frame + REFHV_SELF_HOST_RSP(%rip)
    stmxcsr refhv_self_frame + REFHV_SELF_MXCSR(%rip)
    fnstcw refhv_self_frame + REFHV_SELF_FCW(%rip)
    pushq refhv_self_frame + REFHV_SELF_RFLAGS(%rip)
    popfq
    /* Nothing from here to the guest changes the flags. */
    mov refhv_self_frame + 8 * 0(%rip), %rax
    mov refhv_self_frame + 8 * 1(%rip), %rcx
    mov refhv_self_frame + 8 * 2(%rip), %rdx
    mov refhv_self_frame + 8 * 3(%rip), %rbx
    mov refhv_self_frame + 8 * 4(%rip), %rsp
    mov refhv_self_frame + 8 * 5(%rip), %rbp
    mov refhv_self_frame + 8 * 6(%rip), %rsi
    mov refhv_self_frame + 8 * 7(%rip), %rdi
    mov refhv_self_frame + 8 * 8(%rip), %r8
    mov refhv_self_frame + 8 * 9(%rip), %r9
    mov refhv_self_frame + 8 * 10(%rip), %r10
    mov refhv_self_frame + 8 * 11(%rip), %r11
    mov refhv_self_frame + 8 * 12(%rip), %r12
    mov refhv_self_frame + 8 * 13(%rip), %r13
    mov refhv_self_frame + 8 * 14(%rip), %r14
    mov refhv_self_frame + 8 * 15(%rip), %r15
    movq $1, refhv_self_frame + REFHV_SELF_IN_GUEST(%rip)
    /* A signal at this address is the guest's, before its first instruction. */
refhv_self_jump:
    jmp *refhv_self_frame + REFHV_SELF_RIP(%rip)

    /* The handler has set the flags, and the kernel has restored the guest's FPU. */
refhv_self_leave:
    mov refhv_self_frame + REFHV_SELF_HOST_RSP(%rip), %rsp
    fninit
    fldcw refhv_self_frame + REFHV_SELF_FCW(%rip)
    ldmxcsr refhv_self_frame + REFHV_SELF_MXCSR(%rip)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size refhv_self_enter, . - refhv_self_enter

    .section .note.GNU-stack, "", @progbits
