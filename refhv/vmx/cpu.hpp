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

    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }

  private:
    Capabilities capabilities_;
    u64 vmxon_regions_[platform::most_cpus]{};
};

} // namespace refhv::vmx
