/* SPDX-License-Identifier: MIT
 * The 256 gates of the image's own IDT: vector and error code go on the stack, C++ decides. */
    .text
interrupt_common:
    .irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    push %\r
    .endr
    cld
    mov %rsp, %rdi
    call image_interrupt
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    pop %\r
    .endr
    add $16, %rsp
    iretq

    .globl interrupt_stubs
    .balign 16
interrupt_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if !((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    push $0
    .endif
    push $vector
    jmp interrupt_common
    .set vector, vector + 1
    .endr
    .section .note.GNU-stack, "", @progbits
