// SPDX-License-Identifier: MIT
// platform.hpp for the bootable image: one CPU, all of it ours.
#include "refhv/platform.hpp"

#include "refhv/boot/descriptors.hpp"
#include "refhv/boot/image.hpp"

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

// Interrupts are off in the image but for the windows that the core asks for. Between the two an NMI is a
// disturbance to be counted; at any other time it is a failure to be told.
void interrupts_off() {
    boot::image.in_run = true;
}
void interrupts_restore() {
    boot::image.in_run = false;
}

void take_interrupts() {
    asm volatile("sti\n\tnop\n\tnop\n\tcli" ::: "memory");
}

void take_nmi() {
    asm volatile("int $2" ::: "memory");
} // its IRET unblocks NMIs
u64 nmi_count() {
    return boot::image.nmis;
}

void arm_deadline(u64 tsc_ticks) {
    boot::image.timer.arm(tsc_ticks);
}
void disarm_deadline() {
    boot::image.timer.disarm();
}

u64 exchange_ring0_stack(u64 rsp0) {
    return boot::exchange_ring0_stack(rsp0);
}

bool permits_ports(u16, u32) {
    return true;
}
bool permits_msr(u32 msr) { // the local APIC: no run relies on what the one before left there
    return msr == 0x6e0 || (msr >= 0x800 && msr <= 0x8ff);
}
bool permits_host_fields() {
    return true;
}

} // namespace refhv::platform
