/* SPDX-License-Identifier: MIT
 * Where a further CPU starts: in real mode, at the page that the start-up IPI names (SDM 3A 9.4.4). The code between the
 * labels is copied to a page below 1 MByte; it finds itself by CS. Everything else it needs was left by the first CPU:
 * page tables, and in ap_cpu and ap_stack what is its own. */
#define VIRTUAL 0xffffffff80000000
#define PHYSICAL(symbol) ((symbol) - VIRTUAL)
#define MSR_EFER 0xc0000080

    .text
    .globl ap_begin, ap_end
    .code16
ap_begin:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    movzwl %ax, %ebx
    shl $4, %ebx /* where this page is */
    lea (ap_gdt - ap_begin)(%ebx), %eax
    mov %eax, ap_gdt_pointer + 2 - ap_begin
    lgdtl ap_gdt_pointer - ap_begin
    lea (ap_protected - ap_begin)(%ebx), %eax
    mov %eax, ap_far - ap_begin
    movw $0x08, ap_far + 4 - ap_begin /* the CPU before has left the other selector there */
    mov %cr0, %eax
    or $1, %eax /* PE; INIT has left the caches as they were */
    mov %eax, %cr0
    ljmpl *(ap_far - ap_begin)

    .code32
ap_protected:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x620, %eax /* as in entry.S */
    mov %eax, %cr4
    mov $PHYSICAL(pml4_start), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
    mov $0x80010033, %eax
    mov %eax, %cr0
    lea (ap_long - ap_begin)(%ebx), %eax
    mov %eax, (ap_far - ap_begin)(%ebx)
    movw $0x18, (ap_far + 4 - ap_begin)(%ebx)
    ljmp *(ap_far - ap_begin)(%ebx)

    .code64
ap_long:
    movabs $ap_upper_half, %rax
    jmp *%rax

    .balign 8
ap_gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
ap_gdt_pointer:
    .word . - ap_gdt - 1
    .long 0
ap_far:
    .long 0
    .word 0x08
ap_end:

ap_upper_half:
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $pml4 - VIRTUAL, %rax
    mov %rax, %cr3
    mov ap_stack(%rip), %rsp
    mov ap_cpu(%rip), %rdi
    xor %ebp, %ebp
    call cpu_main
1:  hlt
    jmp 1b
    .section .note.GNU-stack, "", @progbits
