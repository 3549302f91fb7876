// SPDX-License-Identifier: MIT
// The local APIC as the image needs it: one shot of the timer, to end a run that would not end by itself
// (SDM 3A 11.5.4; APM 2 16.4). Works in xAPIC and in x2APIC mode, whichever firmware left on.
#pragma once

#include "refhv/types.hpp"

namespace refhv::boot {

class ApicTimer {
  public:
    static constexpr u8 vector = 0xe0, spurious_vector = 0xff;

    // Turns the APIC's software enable on and measures the timer against the TSC. No APIC: arm does nothing.
    void init();
    void arm(u64 tsc_ticks);
    void disarm();
    void end_of_interrupt();

  private:
    [[nodiscard]] u32 read(u32 reg) const;
    void write(u32 reg, u32 value);

    bool present_ = false, x2apic_ = false;
    volatile u32* mmio_ = nullptr;
    u64 tsc_per_1024_counts_ = 0;
};

} // namespace refhv::boot
