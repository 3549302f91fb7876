// SPDX-License-Identifier: MIT
// VMX operation of the logical processors.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/vmx/capabilities.hpp"

namespace refhv::vmx {

struct Probe {
    abi::BackendStatus status;
    const char* note; // in words, for a person
};

class Cpu {
  public:
    // Whether VMX can be used here; changes nothing. SDM 3C 24.6, 24.7.
    [[nodiscard]] static Probe probe();

    // Enters VMX operation on the CPU of this number, which is the one that calls; a second call is free.
    // Sets and locks IA32_FEATURE_CONTROL if firmware left it unlocked.
    [[nodiscard]] Status enable(Arena& arena, u32 cpu);

    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }
    [[nodiscard]] bool has_rdtscp() const { return has_rdtscp_; }

  private:
    Capabilities capabilities_;
    u64 vmxon_regions_[platform::most_cpus]{};
    bool has_rdtscp_ = false;
};

} // namespace refhv::vmx
