// SPDX-License-Identifier: MIT
// A Multiboot kernel that tries what a PC has: UART, interrupts of the 8254 by the 8259 pair, HLT, paging and long mode
// switched on by itself, and the debug-exit port. Each step says so on the UART; what fails is the exit code.
// as --32 pc.S -o pc.o && ld -m elf_i386 -Ttext 0x100000 pc.o -o pc.elf
    .set uart, 0x3f8
    .set exit_port, 0xf4

    .text
    .long 0x1badb002, 0x3, -(0x1badb002 + 0x3)

    .globl _start
_start:
    mov $stack_end, %esp
    cmp $0x2badb002, %eax
    mov $1, %edi
    jne fail
    testl $0x45, (%ebx) // memory, command line, map
    mov $2, %edi
    jz fail
    mov 16(%ebx), %esi // the command line, as it came
    call print
    mov $newline, %esi
    call print

    // Interrupts 0 to 7 as vectors 20H to 27H; only the timer's is open.
    mov $0x11, %al
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xfe, %al
    out %al, $0x21
    mov $handler, %eax
    mov %ax, idt + 8 * 0x20
    shr $16, %eax
    mov %ax, idt + 8 * 0x20 + 6
    movw $0x10, idt + 8 * 0x20 + 2
    movw $0x8e00, idt + 8 * 0x20 + 4
    lidt idt_pointer
    // 1000 Hz, mode 2.
    mov $0x34, %al
    out %al, $0x43
    mov $0xa9, %al
    out %al, $0x40
    mov $0x04, %al
    out %al, $0x40
    sti
1:  hlt
    cmpl $10, ticks
    jb 1b
    cli
    mov $said_ticks, %esi
    call print

    // A string to a register, by every size that IN and OUT have.
    mov $uart + 7, %edx
    mov $0x5a, %al
    out %al, %dx
    xor %eax, %eax
    in %dx, %al
    mov $3, %edi
    cmp $0x5a, %al
    jne fail

    // Strings to and from ports.
    mov $said_strings, %esi
    mov $said_strings_end - said_strings, %ecx
    mov $uart, %edx
    cld
    rep outsb
    mov $uart + 7, %edx // the scratch register, three times
    mov $scratch, %edi
    mov $3, %ecx
    rep insb
    mov $7, %edi
    cmpl $0x5a5a5a, scratch
    jne fail

    // Memory of a device: to it, back, and an instruction that reads and writes.
    mov $pattern, %esi
    mov $0xff000010, %edi
    mov $2, %ecx
    rep movsl
    mov $8, %edi
    mov 0xff000012, %eax
    cmp $0x66554433, %eax
    jne fail
    orb $0x80, 0xff000010
    cmpb $0x91, 0xff000010
    jne fail

    // The local APIC's timer, one shot, and the I/O APIC's redirection of the 8254.
    mov $handler_apic, %eax
    mov %ax, idt + 8 * 0x28
    shr $16, %eax
    mov %ax, idt + 8 * 0x28 + 6
    movw $0x10, idt + 8 * 0x28 + 2
    movw $0x8e00, idt + 8 * 0x28 + 4
    mov $0xff, %al
    out %al, $0x21 // the 8259 pair is silent
    movl $0x1ff, 0xfee000f0
    movl $0xb, 0xfee003e0 // by 1
    movl $0x28, 0xfee00320
    movl $100000, 0xfee00380
    movl $0, ticks
    sti
1:  hlt
    cmpl $1, ticks
    jb 1b
    cli
    movl $0x10028, 0xfee00320 // masked
    movl $0x14, 0xfec00000 // pin 2
    movl $0x28, 0xfec00010
    movl $0, ticks
    sti
1:  hlt
    cmpl $3, ticks
    jb 1b
    cli
    mov $said_apics, %esi
    call print

    // Long mode on large pages, one to one.
    movl $pdpt + 3, pml4
    movl $directory + 3, pdpt
    mov $0x83, %eax
    mov $directory, %edx
2:  mov %eax, (%edx)
    add $0x200000, %eax
    add $8, %edx
    cmp $directory + 4096, %edx
    jb 2b
    mov $pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x620, %eax // PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

handler:
    incl ticks
    push %eax
    mov $0x20, %al
    out %al, $0x20
    pop %eax
    iret

handler_apic:
    incl ticks
    movl $0, 0xfee000b0
    iret

print: // ESI: text
    lodsb
    test %al, %al
    jz 2f
    mov %al, %ah
    mov $uart + 5, %edx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    mov $uart, %edx
    mov %ah, %al
    out %al, %dx
    jmp print
2:  ret

fail: // EDI
    mov %edi, %eax
    out %eax, $exit_port
    cli
    hlt

    .code64
long_mode:
    mov $0xc0000080, %ecx
    rdmsr
    mov $4, %edi
    test $0x400, %eax // LMA
    jz fail64
    movabs $0x123456789abcdef0, %rax
    movq %rax, %xmm5
    mov $0x40000000, %eax
    cpuid
    mov $5, %edi
    cmp $0x68666572, %ebx // "refh"
    jne fail64
    movq %xmm5, %rbx
    movabs $0x123456789abcdef0, %rax
    mov $6, %edi
    cmp %rax, %rbx
    jne fail64
    mov $said_long, %esi
1:  lodsb
    test %al, %al
    jz 2f
    mov $uart, %edx
    out %al, %dx
    jmp 1b
2:  mov $0x10, %edi
fail64:
    mov %edi, %eax
    out %eax, $exit_port
    cli
    hlt

    .code32
    .data
said_ticks: .asciz "10 ticks\n"
said_strings: .ascii "strings\n"
said_strings_end:
said_apics: .asciz "APICs\n"
pattern:    .long 0x44332211, 0x88776655
scratch:    .long 0
said_long:  .asciz "long mode\n"
newline:    .asciz "\n"
ticks:      .long 0
    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long gdt
idt_pointer:
    .word 8 * 0x30 - 1
    .long idt

    .bss
    .balign 4096
pml4:      .skip 4096
pdpt:      .skip 4096
directory: .skip 4096
idt:       .skip 8 * 0x30
    .balign 16
stack:     .skip 4096
stack_end:
