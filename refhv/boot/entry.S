/* SPDX-License-Identifier: MIT
 * From the 32-bit protected mode of Multiboot (1 and 2) and of PVH to long mode in the upper half.
 * Physical memory below 4 GBytes is mapped at ffff800000000000 (the direct mapping), its first GByte also at
 * ffffffff80000000 (the image). The lower half is left to native guests. */
#define VIRTUAL 0xffffffff80000000
#define PHYSICAL(symbol) ((symbol) - VIRTUAL)

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00010003 /* page-aligned modules, memory map, addresses in the header */

#define PTE_P 1
#define PTE_W 2
#define PTE_PWT_PCD 0x18
#define PTE_PS 0x80
#define FIRST_DEVICE_PAGE (0xfe000000 >> 21) /* 2-MByte pages from here on are devices': APIC and I/O APIC */

#define MSR_EFER 0xc0000080

    .section .multiboot, "ax"
    .balign 4
multiboot_header:
    .long MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
    .long PHYSICAL(multiboot_header), PHYSICAL(image_begin), PHYSICAL(image_data_end), PHYSICAL(image_end)
    .long PHYSICAL(boot_entry)

/* Multiboot 2: where UEFI firmware started the loader, its information has ACPI's root pointer. */
#define MULTIBOOT2_MAGIC 0xe85250d6

    .balign 8
multiboot2_header:
    .long MULTIBOOT2_MAGIC, 0, multiboot2_end - multiboot2_header
    .long -(MULTIBOOT2_MAGIC + multiboot2_end - multiboot2_header)
    .short 2, 0 /* addresses: of the header, of what is loaded, its end, and the end of what is cleared */
    .long 24, PHYSICAL(multiboot2_header), PHYSICAL(image_begin), PHYSICAL(image_data_end), PHYSICAL(image_end)
    .short 3, 0 /* entry */
    .long 12, PHYSICAL(boot_entry)
    .balign 8
    .short 0, 0 /* end */
    .long 8
multiboot2_end:

/* XEN_ELFNOTE_PHYS32_ENTRY: where a PVH loader begins (QEMU, Cloud Hypervisor, Firecracker) */
#define NOTE_PHYS32_ENTRY 18
#define PVH_MAGIC 0x336ec578

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, NOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long PHYSICAL(pvh_entry)

    .section .boot, "ax"
    .code32
pvh_entry: /* its information is in EBX too; what EAX holds is not said */
    mov $PVH_MAGIC, %eax
    .globl boot_entry
boot_entry:
    cli
    cld
    mov $PHYSICAL(boot_stack_top), %esp
    mov %eax, %ebp /* the loader's magic; its information stays in EBX */
    mov %ebx, %esi

    mov $0x80000000, %eax
    cpuid
    cmp $0x80000001, %eax
    jb no_long_mode
    mov $0x80000001, %eax
    cpuid
    bt $29, %edx
    jnc no_long_mode

    /* page directories: 2048 pages of 2 MBytes */
    mov $PHYSICAL(page_directories), %edi
    mov $(PTE_P | PTE_W | PTE_PS), %eax
    xor %ecx, %ecx
1:  cmp $FIRST_DEVICE_PAGE, %ecx
    jne 2f
    or $PTE_PWT_PCD, %eax
2:  mov %eax, (%edi, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $2048, %ecx
    jb 1b
    /* directory pointers: four for the direct mapping, one for the image */
    mov $PHYSICAL(pdpt_direct), %edi
    mov $(PHYSICAL(page_directories) + PTE_P + PTE_W), %eax
    mov %eax, PHYSICAL(pdpt_image) + 510 * 8
    xor %ecx, %ecx
3:  mov %eax, (%edi, %ecx, 8)
    add $4096, %eax
    inc %ecx
    cmp $4, %ecx
    jb 3b
    /* every CPU starts with the lower half mapped as it is, and goes on without: null pointers fault */
    movl $(PHYSICAL(pdpt_direct) + PTE_P + PTE_W), PHYSICAL(pml4_start)
    .irp table, pml4_start, pml4
    movl $(PHYSICAL(pdpt_direct) + PTE_P + PTE_W), PHYSICAL(\table) + 256 * 8
    movl $(PHYSICAL(pdpt_image) + PTE_P + PTE_W), PHYSICAL(\table) + 511 * 8
    .endr

    mov $0x620, %eax /* PAE; OSFXSR and OSXMMEXCPT for guests, the core uses no SSE */
    mov %eax, %cr4
    mov $PHYSICAL(pml4_start), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $0x901, %eax /* SCE, LME, NXE */
    wrmsr
    mov $0x80010033, %eax /* PE, MP, ET, NE, WP, PG */
    mov %eax, %cr0
    lgdt PHYSICAL(boot_gdt_pointer)
    ljmp $8, $PHYSICAL(long_mode)

no_long_mode:
    mov $PHYSICAL(no_long_mode_text), %esi
1:  lodsb
    test %al, %al
    jz 2f
    out %al, $0xe9
    mov %al, %bl
    mov $0x3fd, %dx
3:  in %dx, %al
    test $0x20, %al
    jz 3b
    mov %bl, %al
    mov $0x3f8, %dx
    out %al, %dx
    jmp 1b
2:  hlt
    jmp 2b
no_long_mode_text:
    .asciz "refhv: this CPU has no long mode\r\n"

    .code64
long_mode:
    movabs $upper_half, %rax
    jmp *%rax

    .text
upper_half:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $pml4 - VIRTUAL, %rax
    mov %rax, %cr3
    mov $boot_stack_top, %rsp
    mov %ebp, %edi
    mov %esi, %esi
    xor %ebp, %ebp
    call image_main
1:  hlt
    jmp 1b

    .section .boot
    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .long PHYSICAL(boot_gdt)

    .bss
    .globl pml4, pml4_start
    .balign 4096
pml4_start:
    .skip 4096
pml4:
    .skip 4096
pdpt_direct:
    .skip 4096
pdpt_image:
    .skip 4096
page_directories:
    .skip 4 * 4096
    .skip 64 * 1024
boot_stack_top:
    .section .note.GNU-stack, "", @progbits
