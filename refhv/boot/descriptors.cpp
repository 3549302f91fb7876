// SPDX-License-Identifier: MIT
#include "refhv/boot/descriptors.hpp"

#include "refhv/boot/cpu.hpp"
#include "refhv/x86/exceptions.hpp"
#include "refhv/x86/gate.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv::boot {

extern "C" const u8 interrupt_stubs[];

namespace {

alignas(16) x86::Gate idt[x86::idt_entries];

u8 ist_of(unsigned vector) {
    namespace v = x86::vector;
    return vector == v::nmi ? 1 : vector == v::double_fault ? 2 : vector == v::machine_check ? 3 : 0;
}

} // namespace

void make_idt() {
    for (unsigned v = 0; v < x86::idt_entries; ++v) {
        const u64 at = reinterpret_cast<u64>(interrupt_stubs) + v * 16;
        idt[v] = x86::Gate::to(at, code_selector, ist_of(v));
    }
}

void load_descriptors(Cpu& cpu) {
    Tss& tss = cpu.descriptors.tss;
    const u64 base = reinterpret_cast<u64>(&tss);
    tss.io_map = sizeof tss;
    for (usize i = 0; i < 3; ++i) {
        tss.ist[i] = reinterpret_cast<u64>(cpu.interrupt_stacks[i]) + Cpu::interrupt_stack_size;
    }
    constexpr u64 available_tss = 0x89;
    u64(&gdt)[5] = cpu.descriptors.gdt;
    gdt[1] = 0x00af'9b00'0000'ffff;
    gdt[2] = 0x00cf'9300'0000'ffff;
    gdt[3] = (sizeof tss - 1) | (base & 0xff'ffff) << 16 | available_tss << 40 | (base >> 24 & 0xff) << 56;
    gdt[4] = base >> 32;
    x86::lgdt({sizeof gdt - 1, reinterpret_cast<u64>(gdt)});
    asm volatile("pushq %0\n\tlea 1f(%%rip), %%rax\n\tpush %%rax\n\tlretq\n1:" ::"i"(u64{code_selector})
                 : "rax");
    x86::write_ds(data_selector);
    x86::write_es(data_selector);
    asm volatile("mov %0, %%ss" ::"r"(data_selector));
    x86::ltr(tss_selector);
    x86::lidt({sizeof idt - 1, reinterpret_cast<u64>(idt)});
}

Cpu& this_cpu() {
    return *reinterpret_cast<Cpu*>(x86::sgdt().base); // its GDT is the first thing in it
}

} // namespace refhv::boot
