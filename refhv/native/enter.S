/* SPDX-License-Identifier: MIT
 * The switch into a guest that runs in ring 0 of this very CPU: void native_enter(Context*). It comes back through one
 * of 256 gates; both page tables map the core, so CR3 can change in the middle. */
#include "refhv/native/context.h"
#include "refhv/vcpu/switch_macros.inc"

.text
    .globl native_enter
    .type native_enter, @function
native_enter:
    enter_host_frame
    mov %rsp, native_current(%rip)
    mov NATIVE_CTX_GUEST_CR3(%rsp), %rax
    mov %rax, %cr3
    lgdt NATIVE_CTX_GUEST_GDT(%rsp)
    lidt NATIVE_CTX_GUEST_IDT(%rsp)
    load_registers
    load_scratch
    lea NATIVE_CTX_FRAME(%rsp), %rsp
    iretq

native_return: /* stack: vector, error code, the CPU's frame */
    push %rax
    mov native_current(%rip), %rax
    pop (%rax)
    mov %rcx, 8(%rax)
    mov %rdx, 16(%rax)
    pop NATIVE_CTX_VECTOR(%rax)
    pop NATIVE_CTX_ERROR(%rax)
    .irp n, 0, 8, 16, 24, 32
    pop NATIVE_CTX_FRAME+\n(%rax)
    .endr
    mov %rax, %rsp
    save_registers
    lgdt NATIVE_CTX_HOST_GDT(%rsp)
    lidt NATIVE_CTX_HOST_IDT(%rsp)
    mov NATIVE_CTX_HOST_CR3(%rsp), %rax
    mov %rax, %cr3
    mov NATIVE_CTX_HOST_SS(%rsp), %ss
    mov NATIVE_CTX_HOST_DS(%rsp), %ds
    mov NATIVE_CTX_HOST_ES(%rsp), %es
    push NATIVE_CTX_HOST_CS(%rsp)
    lea 1f(%rip), %rax
    push %rax
    lretq
1:  cld
    leave_host_frame
    .size native_enter, . - native_enter

    .globl native_stubs
    .balign NATIVE_STUB_SIZE
native_stubs:
    .set vector, 0
    .rept 256
    .balign NATIVE_STUB_SIZE
    /* Vectors 8, 10 to 14, 17, 21, 29 and 30 come with an error code (SDM 3A 6.15, APM 2 8.2). */
    .if !((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    push $0
    .endif
    push $vector
    jmp native_return
    .set vector, vector + 1
    .endr

.bss
    .balign 8
native_current:
    .quad 0
.section .note.GNU-stack, "", @progbits
