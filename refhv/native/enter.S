/* SPDX-License-Identifier: MIT
 * The switch into a guest that runs in ring 0 of this very CPU: void native_enter(Context*). It comes back through one
 * of 256 gates; both page tables map the core, so CR3 can change in the middle. So can the descriptor tables, for the
 * selectors of the core's gates are valid in both GDTs. An NMI that comes while the IDT is the guest's and the core still,
 * or again, at work is told by its RIP: on the way in the guest has not begun, and the run goes back with it; on the way
 * out it is counted, and handed on at the end. */
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
    lidt NATIVE_CTX_GUEST_IDT(%rsp)
native_way_in:
    lgdt NATIVE_CTX_GUEST_GDT(%rsp)
    load_registers
    load_scratch
    lea NATIVE_CTX_FRAME(%rsp), %rsp
    iretq
native_guest_runs:

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
native_leave:
    lgdt NATIVE_CTX_HOST_GDT(%rsp)
    lidt NATIVE_CTX_HOST_IDT(%rsp)
native_way_out_ends:
    mov NATIVE_CTX_HOST_CR3(%rsp), %rax
    mov %rax, %cr3
    mov NATIVE_CTX_HOST_SS(%rsp), %ss
    mov NATIVE_CTX_HOST_DS(%rsp), %ds
    mov NATIVE_CTX_HOST_ES(%rsp), %es
    push NATIVE_CTX_HOST_CS(%rsp)
    lea 1f(%rip), %rax
    push %rax
    lretq
1:  push $2 /* RFLAGS as a VM exit leaves it: a gate keeps the guest's AC and DF */
    popfq
    leave_host_frame
    .size native_enter, . - native_enter
    beyond_checks native_enter

/* The NMI's stub, if NMIs are not the guest's. Its stack is an IST's: vector, error code, the CPU's frame. */
native_nmi:
    push %rax
    push %rcx
    mov 32(%rsp), %rax /* RIP */
    lea native_way_in(%rip), %rcx
    cmp %rcx, %rax
    jb 1f
    lea native_guest_runs(%rip), %rcx
    cmp %rcx, %rax
    jb 2f
    lea native_return(%rip), %rcx
    cmp %rcx, %rax
    jb 1f
    lea native_way_out_ends(%rip), %rcx
    cmp %rcx, %rax
    jb 3f
    lea native_stubs(%rip), %rcx
    cmp %rcx, %rax
    jb 1f
    lea native_stubs_end(%rip), %rcx
    cmp %rcx, %rax
    jb 3f
1:  pop %rcx /* the guest was interrupted */
    pop %rax
    jmp native_return
2:  mov native_current(%rip), %rsp /* the way in: the Context is as the guest shall begin */
    movq $2, NATIVE_CTX_VECTOR(%rsp)
    movq $0, NATIVE_CTX_ERROR(%rsp)
    jmp native_leave
3:  incl native_missed_nmis(%rip) /* the way out */
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

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
    .if vector == 2
    jmp native_nmi
    .else
    jmp native_return
    .endif
    .set vector, vector + 1
    .endr
native_stubs_end:

.bss
    .globl native_missed_nmis
    .balign 4
native_missed_nmis:
    .long 0
    .balign 8
native_current:
    .quad 0
.section .note.GNU-stack, "", @progbits
