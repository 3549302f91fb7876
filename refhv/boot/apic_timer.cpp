// SPDX-License-Identifier: MIT
#include "refhv/boot/apic_timer.hpp"

#include "refhv/platform.hpp"
#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::boot {

namespace {
// Offsets in the xAPIC page; the x2APIC MSR is 800H + offset / 16.
constexpr u32 eoi = 0xb0, spurious = 0xf0, lvt_timer = 0x320, initial_count = 0x380, current_count = 0x390,
              divide = 0x3e0;
constexpr u32 masked = 1u << 16, software_enable = 1u << 8, divide_by_1 = 0xb;
constexpr u64 global_enable = 1u << 11, extd = 1u << 10;
} // namespace

u32 ApicTimer::read(u32 reg) const {
    return x2apic_ ? static_cast<u32>(x86::rdmsr(0x800 + reg / 16)) : mmio_[reg / 4];
}

void ApicTimer::write(u32 reg, u32 value) {
    if (x2apic_) {
        x86::wrmsr(0x800 + reg / 16, value);
    } else {
        mmio_[reg / 4] = value;
    }
}

void ApicTimer::init() {
    if ((x86::cpuid(1).edx >> 9 & 1) == 0) {
        return;
    }
    const u64 base = x86::rdmsr(x86::msr::apic_base);
    constexpr u64 address_mask = 0x000f'ffff'ffff'f000, direct_mapping_end = u64{1} << 32;
    if ((base & global_enable) == 0 || (base & address_mask) >= direct_mapping_end) {
        return; // once cleared, the enable bit may not be settable again: leave it
    }
    present_ = true;
    x2apic_ = (base & extd) != 0;
    mmio_ = static_cast<volatile u32*>(platform::to_virtual(base & address_mask));
    write(spurious, software_enable | spurious_vector);
    write(divide, divide_by_1);
    write(lvt_timer, masked | vector);
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

void ApicTimer::arm(u64 tsc_ticks) {
    if (present_) {
        const u64 limit = ~u64{0} / 1024;
        const u64 per = tsc_per_1024_counts_ == 0 ? 1 : tsc_per_1024_counts_;
        const u64 counts = (tsc_ticks < limit ? tsc_ticks : limit) * 1024 / per + 1;
        write(lvt_timer, vector);
        write(initial_count, counts < ~u32{0} ? static_cast<u32>(counts) : ~u32{0});
    }
}

void ApicTimer::disarm() {
    if (present_) {
        write(initial_count, 0);
        write(lvt_timer, masked | vector);
    }
}

void ApicTimer::end_of_interrupt() {
    if (present_) {
        write(eoi, 0);
    }
}

} // namespace refhv::boot
