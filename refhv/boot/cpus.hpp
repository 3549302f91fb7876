// SPDX-License-Identifier: MIT
// All CPUs of the image: the first, which serves requests, and the others, which wait for jobs.
#pragma once

#include "refhv/boot/cpu.hpp"
#include "refhv/boot/memory_map.hpp"
#include "refhv/core/platform.hpp"

namespace refhv::boot {

class Cpus {
  public:
    static constexpr u32 most = platform::most_cpus;

    // The CPU that runs this becomes number 0. Before interrupts, jobs or anything of platform.hpp.
    void adopt_first();
    // Starts the other CPUs that ACPI lists, as many as fit, one after the other (SDM 3A 9.4.4), and measures
    // their TSCs. What they need is cut off the front of `memory`. `trampoline` is a page below 1 MByte that
    // is unused; 0: there is none, and the first CPU stays alone. A CPU that does not come up is left out.
    void start_others(u32 trampoline, Range& memory, const u8* acpi_root);

    [[nodiscard]] u32 count() const { return count_; }
    [[nodiscard]] Cpu& at(u32 number) { return *cpus_[number]; }

    // `cpu` is idle and not the one that calls.
    void start(u32 cpu, const Job& job);
    [[nodiscard]] bool is_idle(u32 cpu) const;

  private:
    [[nodiscard]] bool bring_up(Cpu& cpu, u32 trampoline);
    [[nodiscard]] bool measure_tsc(Cpu& cpu);

    Cpu* cpus_[most]{};
    u32 count_ = 0;
};

extern Cpus cpus;

} // namespace refhv::boot
