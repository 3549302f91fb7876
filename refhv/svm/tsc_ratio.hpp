// SPDX-License-Identifier: MIT
// The TSC ratio: an MSR of the host's that scales the TSC a guest reads (APM 2 15.30.5). It stands for a run
// and is put back behind it; while the host runs it does nothing.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv::svm {

class TscRatio {
  public:
    static constexpr u32 msr = 0xc000'0104;                            // its number as an abi::Field
    static constexpr u64 one = u64{1} << 32, reserved = ~u64{0} << 40; // 8 bits, 32 bits of fraction

    [[nodiscard]] u64 get() const { return ratio_; }
    [[nodiscard]] Status set(bool offered, u64 ratio) {
        if (!offered) {
            return refuse(abi::Outcome::unsupported, "no TSC ratio: CPUID.8000000AH:EDX[4] is 0");
        }
        if ((ratio & reserved) != 0) {
            return refuse(abi::Outcome::bad_request, "bits 63 to 40 of the TSC ratio are reserved");
        }
        ratio_ = ratio;
        return {};
    }
    void begin() {
        if (ratio_ != one) {
            host_ = x86::rdmsr(msr);
            x86::wrmsr(msr, ratio_);
        }
    }
    void end() const {
        if (ratio_ != one) {
            x86::wrmsr(msr, host_);
        }
    }

  private:
    u64 ratio_ = one, host_ = one;
};

} // namespace refhv::svm
