// SPDX-License-Identifier: MIT
#include "refhv/boot/local_apic.hpp"

#include "refhv/core/platform.hpp"
#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::boot {

namespace {
// Offsets in the xAPIC page; the x2APIC MSR is 800H + offset / 16.
constexpr u32 id_register = 0x20, eoi = 0xb0, spurious = 0xf0, isr = 0x100, icr_low = 0x300, icr_high = 0x310,
              lvt_timer = 0x320, initial_count = 0x380, current_count = 0x390, divide = 0x3e0;
constexpr u32 x2apic_msrs = 0x800, masked = 1u << 16, software_enable = 1u << 8, divide_by_1 = 0xb;
constexpr u64 global_enable = 1u << 11, extd = 1u << 10;
// ICR, SDM 3A figure 11-12: delivery modes, level asserted, and the bit that says that it is on its way.
constexpr u32 mode_nmi = 4u << 8, mode_init = 5u << 8, mode_startup = 6u << 8, asserted = 1u << 14,
              pending = 1u << 12;
} // namespace

u32 LocalApic::read(u32 reg) const {
    return x2apic_ ? static_cast<u32>(x86::rdmsr(x2apic_msrs + reg / 16)) : mmio_[reg / 4];
}

void LocalApic::write(u32 reg, u32 value) {
    if (x2apic_) {
        x86::wrmsr(x2apic_msrs + reg / 16, value);
    } else {
        mmio_[reg / 4] = value;
    }
}

void LocalApic::enable() {
    write(spurious, software_enable | spurious_vector);
    write(divide, divide_by_1);
    write(lvt_timer, masked | timer_vector);
}

void LocalApic::init() {
    const abi::CpuidLeaf features = x86::cpuid(1);
    if ((features.edx >> 9 & 1) == 0) {
        return;
    }
    const u64 base = x86::rdmsr(x86::msr::apic_base);
    constexpr u64 address_mask = 0x000f'ffff'ffff'f000, direct_mapping_end = u64{1} << 32;
    if ((base & global_enable) == 0 || (base & address_mask) >= direct_mapping_end) {
        return; // once cleared, the enable bit may not be settable again: leave it
    }
    const bool offered = (features.ecx >> 21 & 1) != 0;
    x2apic_ = (base & extd) != 0 ||
              (offered && platform::try_wrmsr(x86::msr::apic_base, base | extd)); // SDM 3A 11.12.1
    mmio_ = static_cast<volatile u32*>(platform::to_virtual(base & address_mask));
    present_ = true;
    enable();
    constexpr u64 window = 100'000; // TSC ticks
    write(initial_count, ~u32{0});
    const u64 begin = x86::rdtsc_fenced();
    u64 now = begin;
    while (now - begin < window) {
        now = x86::rdtsc_fenced();
    }
    const u64 counted = ~u32{0} - read(current_count);
    write(initial_count, 0);
    tsc_per_1024_counts_ = (now - begin) * 1024 / (counted == 0 ? 1 : counted);
}

void LocalApic::init_other() {
    if (x2apic_) {
        const u64 base = x86::rdmsr(x86::msr::apic_base);
        x86::wrmsr(x86::msr::apic_base, base | global_enable | extd);
    }
    enable();
}

u32 LocalApic::id() const {
    if (!present_) {
        return x86::cpuid(1).ebx >> 24;
    }
    return x2apic_ ? read(id_register) : read(id_register) >> 24;
}

void LocalApic::arm(u64 tsc_ticks) {
    if (present_) {
        const u64 limit = ~u64{0} / 1024;
        const u64 per = tsc_per_1024_counts_ == 0 ? 1 : tsc_per_1024_counts_;
        const u64 counts = (tsc_ticks < limit ? tsc_ticks : limit) * 1024 / per + 1;
        write(lvt_timer, timer_vector);
        write(initial_count, counts < ~u32{0} ? static_cast<u32>(counts) : ~u32{0});
    }
}

void LocalApic::disarm() {
    if (present_) {
        write(initial_count, 0);
        write(lvt_timer, masked | timer_vector);
    }
}

void LocalApic::end_of_interrupt() {
    if (present_) {
        write(eoi, 0);
    }
}

bool LocalApic::in_service(u8 vector) const {
    return present_ && (read(isr + vector / 32 * 16) >> (vector % 32) & 1) != 0;
}

// In xAPIC mode the ICR is two registers, and busy until the interrupt is on its way; in x2APIC mode it is
// one MSR, whose WRMSR orders nothing before it (SDM 3A 11.12.3).
void LocalApic::command(u32 id, u32 low) {
    if (x2apic_) {
        asm volatile("mfence\n\tlfence" ::: "memory");
        x86::wrmsr(x2apic_msrs + icr_low / 16, u64{id} << 32 | low);
        return;
    }
    while ((read(icr_low) & pending) != 0) {
        x86::pause();
    }
    write(icr_high, id << 24);
    write(icr_low, low);
}

void LocalApic::send_interrupt(u32 id, u8 vector) {
    command(id, asserted | vector);
}
void LocalApic::send_nmi(u32 id) {
    command(id, asserted | mode_nmi);
}
void LocalApic::send_init(u32 id) {
    command(id, asserted | mode_init);
}
void LocalApic::send_startup(u32 id, u8 page) {
    command(id, asserted | mode_startup | page);
}

} // namespace refhv::boot
