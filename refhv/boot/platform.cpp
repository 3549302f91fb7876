// SPDX-License-Identifier: MIT
// platform.hpp for the bootable image: every CPU is ours.
#include "refhv/core/platform.hpp"

#include "refhv/boot/cpus.hpp"
#include "refhv/boot/image.hpp"
#include "refhv/x86/control_bits.hpp"
#include "refhv/x86/tss.hpp"

namespace refhv::platform {

namespace {
constexpr u64 direct_mapping = 0xffff'8000'0000'0000, image_mapping = 0xffff'ffff'8000'0000;
}

void* to_virtual(u64 physical) {
    return reinterpret_cast<void*>(direct_mapping + physical);
}

u64 to_physical(const void* address) {
    const u64 a = reinterpret_cast<u64>(address);
    return a >= image_mapping ? a - image_mapping : a - direct_mapping;
}

// The fix-up sends a faulting instruction to the label behind it, where `ok` still tells.
#define REFHV_FIXUP ".pushsection .fixups, \"a\"\n\t.quad 1b, 2b\n\t.popsection\n\t"

bool try_rdmsr(u32 msr, u64& value) {
    u32 lo = 0, hi = 0;
    u8 ok = 0;
    asm volatile("1: rdmsr\n\tmovb $1, %2\n2:\n\t" REFHV_FIXUP : "+a"(lo), "+d"(hi), "+m"(ok) : "c"(msr));
    value = u64{hi} << 32 | lo;
    return ok != 0;
}

bool try_wrmsr(u32 msr, u64 value) {
    u8 ok = 0;
    asm volatile("1: wrmsr\n\tmovb $1, %0\n2:\n\t" REFHV_FIXUP
                 : "+m"(ok)
                 : "c"(msr), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32))
                 : "memory");
    return ok != 0;
}

bool try_vmxon(u64 region) {
    u8 ok = 0;
    asm volatile("1: vmxon %1\n\tseta %0\n2:\n\t" REFHV_FIXUP : "+m"(ok) : "m"(region) : "cc", "memory");
    return ok != 0;
}

void reload_task_register() {
    x86::reload_task(x86::sgdt(), x86::str());
}
void add_control_bits(u64 cr0, u64 cr4) {
    x86::add_control_bits(cr0, cr4);
}
void remove_control_bits(u64 cr0, u64 cr4) {
    x86::remove_control_bits(cr0, cr4);
}

// Interrupts are off in the image but for the windows that the core asks for. Between the two an NMI is a
// disturbance to be counted; at any other time it is a failure to be told.
void hold_interrupts() {
    ++boot::this_cpu().in_run;
}
void release_interrupts() {
    --boot::this_cpu().in_run;
}

bool take_interrupts() {
    const u64& served = boot::this_cpu().served;
    const u64 before = served;
    asm volatile("sti\n\tnop\n\tnop\n\tcli" ::: "memory");
    return served != before;
}
u64 tsc_hz() {
    return 0;
}
u64 window_interval() {
    return 0;
}
void let_host_run() {
    (void)take_interrupts();
}
bool stop_asked() {
    return boot::image.console.has_input();
}

void take_nmi() {
    asm volatile("int $2" ::: "memory");
} // its IRET unblocks NMIs
void machine_check() {
    asm volatile("int $18" ::: "memory");
}
u64 nmi_count() {
    return boot::this_cpu().nmis;
}

void serve_interrupt(u8 vector) {
    if (boot::image.apic.in_service(vector)) {
        boot::image.apic.end_of_interrupt();
    }
}

u8 take_guest_vector() {
    boot::Cpu& cpu = boot::this_cpu();
    for (usize word = 4; word-- > 0;) {
        if (const u64 set = cpu.arrived[word]; set != 0) {
            const unsigned bit = 63 - static_cast<unsigned>(__builtin_clzll(set));
            cpu.arrived[word] = set & ~(u64{1} << bit);
            return static_cast<u8>(word * 64 + bit);
        }
    }
    return 0;
}

void wait_for_interrupt() {
    asm volatile("sti\n\thlt\n\tcli" ::: "memory");
}

void arm_deadline(u64 tsc_ticks) {
    boot::image.apic.arm(tsc_ticks);
}
void disarm_deadline() {
    boot::image.apic.disarm();
}

u64 exchange_ring0_stack(u64 rsp0) {
    boot::Tss& tss = boot::this_cpu().descriptors.tss;
    const u64 before = tss.rsp[0];
    tss.rsp[0] = rsp0;
    return before;
}

abi::CpuInfo cpu_info(u32 cpu) {
    const boot::Cpu& c = boot::cpus.at(cpu);
    return {.apic_id = c.apic_id, .zero = 0, .tsc_offset = c.tsc_offset, .tsc_error = c.tsc_error};
}

void start_on(u32 cpu, void (*function)(void*), void* argument) {
    boot::cpus.start(cpu, {function, argument});
}

bool is_idle(u32 cpu) {
    return boot::cpus.is_idle(cpu);
}

void send_interrupt(u32 cpu, u8 vector) {
    boot::image.apic.send_interrupt(boot::cpus.at(cpu).apic_id, vector);
}

void send_nmi(u32 cpu) {
    boot::image.apic.send_nmi(boot::cpus.at(cpu).apic_id);
}

void send_init(u32 cpu) {
    boot::image.apic.send_init(boot::cpus.at(cpu).apic_id);
}

void send_start_up(u32 cpu, u8 page) {
    boot::image.apic.send_startup(boot::cpus.at(cpu).apic_id, page);
}

Permissions permissions() {
    // Under a name, so that ci/check-permits can make a copy of the image that permits less.
    struct Named {
        char name[16];
        Permissions permissions;
    };
    static const volatile Named named{{"refhv permits:"}, permit_all};
    return {named.permissions.bits};
}
bool permits_ports(u16, u32) {
    return true;
}
bool permits_msr(u32 msr, bool write) { // the local APIC: no run relies on what the one before left there
    return !write || msr == 0x6e0 || (msr >= 0x800 && msr <= 0x8ff);
}

} // namespace refhv::platform
