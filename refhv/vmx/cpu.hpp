// SPDX-License-Identifier: MIT
// VMX operation of the logical processors.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/vcpu/probe.hpp"
#include "refhv/vmx/capabilities.hpp"

namespace refhv::vmx {

class Cpu {
  public:
    // Whether VMX can be used here; changes nothing. SDM 3C 24.6, 24.7.
    [[nodiscard]] static Probe probe();

    // Enters VMX operation on the CPU of this number, which is the one that calls; a second call is free.
    // Sets and locks IA32_FEATURE_CONTROL if firmware left it unlocked.
    [[nodiscard]] Status enable(Arena& arena, u32 cpu);

    // The way out: the calling CPU, of this number, is as enable found it, but for the lock of
    // IA32_FEATURE_CONTROL. No VMCS may be active on it. Free if it is not in VMX operation.
    void disable(Arena& arena, u32 cpu);

    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }

  private:
    struct PerCpu {
        u64 vmxon_region;
        u64 added_cr0, added_cr4; // what VMX operation needs and the host had not set
    };
    Capabilities capabilities_;
    PerCpu per_cpu_[platform::most_cpus]{};
};

} // namespace refhv::vmx
