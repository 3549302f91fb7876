// SPDX-License-Identifier: MIT
// The CPU that a guest of the monitor sees: the target's, without what the monitor does not offer.
#pragma once

#include "refhv/client/target.hpp"

namespace refhv::monitor {

class CpuModel {
  public:
    // `apic`: the board has a local APIC.
    CpuModel(const client::HelloInfo& hello, bool apic);

    // What CPUID gives, in EAX, EBX, ECX, EDX.
    [[nodiscard]] abi::CpuidLeaf leaf(u32 leaf, u32 subleaf, const abi::GuestState& state) const;

    // Components that XCR0 may have; 0: no XSAVE.
    [[nodiscard]] u64 components() const { return components_; }
    // Reserved bits of EFER are those not here.
    [[nodiscard]] u64 efer() const { return efer_; }

  private:
    [[nodiscard]] abi::CpuidLeaf host(u32 leaf, u32 subleaf) const;
    [[nodiscard]] abi::CpuidLeaf xsave(u32 subleaf, const abi::GuestState& state) const;

    std::vector<abi::CpuidLeaf> leaves_;
    bool apic_;
    u64 components_ = 0;
    u64 efer_ = 0;
    u32 max_basic_ = 0, max_extended_ = 0;
};

} // namespace refhv::monitor
