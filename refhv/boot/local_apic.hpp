// SPDX-License-Identifier: MIT
// The local APIC of whichever CPU calls, as the image needs it: one shot of the timer, to end a run that
// would not end by itself, and interrupts to other CPUs (SDM 3A 11.5.4, 11.6, 11.12; APM 2 16.4 to 16.11).
// Works in xAPIC and in x2APIC mode; all CPUs are in one mode.
#pragma once

#include "refhv/core/platform.hpp"

namespace refhv::boot {

class LocalApic {
  public:
    // The core's own vectors; what is below is a guest's.
    static constexpr u8 first_own_vector = platform::end_of_guest_vectors, timer_vector = first_own_vector,
                        wake_vector = first_own_vector + 1, spurious_vector = 0xff;

    // On the first CPU: goes to x2APIC mode where the CPU has it, turns the software enable on, measures the
    // timer against the TSC. No APIC: everything else does nothing.
    void init();
    // On every further one, which is put into the same mode.
    void init_other();

    [[nodiscard]] bool present() const { return present_; }
    [[nodiscard]] u32 id() const;
    // Whether an interrupt can be sent there: in xAPIC mode an ID has 8 bits, of which FFH is everybody.
    [[nodiscard]] bool reaches(u32 id) const { return present_ && (x2apic_ || id < 0xff); }
    void arm(u64 tsc_ticks);
    void disarm();
    void end_of_interrupt();
    // The interrupt of this vector has been taken here and awaits its EOI.
    [[nodiscard]] bool in_service(u8 vector) const;

    // Destinations are APIC IDs.
    void send_interrupt(u32 id, u8 vector);
    void send_nmi(u32 id);
    void send_init(u32 id);
    void send_startup(u32 id, u8 page);

  private:
    [[nodiscard]] u32 read(u32 reg) const;
    void write(u32 reg, u32 value);
    void enable();
    void command(u32 id, u32 low);

    bool present_ = false, x2apic_ = false;
    volatile u32* mmio_ = nullptr;
    u64 tsc_per_1024_counts_ = 0;
};

} // namespace refhv::boot
