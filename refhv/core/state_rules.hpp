// SPDX-License-Identifier: MIT
// What a GuestState must not hold: the host itself loads some of its registers around a run, by instructions
// that raise #GP for some values. What a VM entry checks is left to it.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/contract/status.hpp"
#include "refhv/x86/address.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv {

struct StateRules {
    bool xsave;     // the host has CR4.OSXSAVE set
    u64 components; // that XCR0 may have

    [[nodiscard]] static StateRules detect() {
        const bool on = (x86::cpuid(1).ecx >> 27 & 1) != 0; // OSXSAVE, which is CR4's bit
        const abi::CpuidLeaf leaf = on ? x86::cpuid(0xd) : abi::CpuidLeaf{};
        return {on, u64{leaf.edx} << 32 | leaf.eax};
    }

    // Do these components go together? SDM 1 13.3; APM 2 11.5.2.
    [[nodiscard]] static constexpr bool is_xcr0(u64 value) {
        const auto has = [&](unsigned bit) { return (value >> bit & 1) != 0; };
        constexpr unsigned x87 = 0, sse = 1, avx = 2, bndregs = 3, bndcsr = 4, opmask = 5, zmm_hi256 = 6,
                           hi16_zmm = 7, xtilecfg = 17, xtiledata = 18;
        return has(x87) && (!has(avx) || has(sse)) && has(bndregs) == has(bndcsr) &&
               has(opmask) == has(zmm_hi256) && has(opmask) == has(hi16_zmm) && (!has(opmask) || has(avx)) &&
               has(xtilecfg) == has(xtiledata);
    }

    [[nodiscard]] constexpr Status check(const abi::GuestState& s) const {
        const auto is_canonical = [](u64 a) { // every CPU takes these
            return x86::is_canonical(a, x86::linear_bits_level4);
        };
        if (s.cr8 > 15) {
            return refuse(abi::Outcome::bad_request, "state: bits 63 to 4 of CR8 are reserved");
        }
        if (s.dr6 >> 32 != 0) {
            return refuse(abi::Outcome::bad_request, "state: bits 63 to 32 of DR6 are reserved");
        }
        if (!is_canonical(s.lstar) || !is_canonical(s.cstar) || !is_canonical(s.kernel_gs_base)) {
            return refuse(abi::Outcome::bad_request,
                          "state: LSTAR, CSTAR and KERNEL_GS_BASE hold canonical addresses");
        }
        if (s.sfmask >> 32 != 0 || s.tsc_aux >> 32 != 0) {
            return refuse(abi::Outcome::bad_request,
                          "state: bits 63 to 32 of SFMASK and TSC_AUX are reserved");
        }
        if (xsave && s.xcr0 != 0 && !is_xcr0(s.xcr0)) { // 0: it is left as it is
            return refuse(abi::Outcome::bad_request, "state: no CPU takes this XCR0");
        }
        if (xsave && (s.xcr0 & ~components) != 0) {
            return refuse(abi::Outcome::unsupported, "state: XCR0 names components that this CPU lacks");
        }
        return {};
    }
};

} // namespace refhv
