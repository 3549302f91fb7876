// SPDX-License-Identifier: MIT
// What this CPU's VMX allows (SDM 3D appendix A).
#pragma once

#include "refhv/vmx/fields.hpp"
#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::vmx {

// A control field's two halves: bits that must be 1, bits that may be 1.
struct Allowed {
    u32 must_be_1;
    u32 may_be_1;

    [[nodiscard]] static Allowed of(u64 msr) { return {static_cast<u32>(msr), static_cast<u32>(msr >> 32)}; }
    // What is wanted, made legal; the caller asks offers() for what it cannot do without.
    [[nodiscard]] u32 adjust(u32 wanted) const { return (wanted | must_be_1) & may_be_1; }
    [[nodiscard]] bool offers(u32 bits) const { return (may_be_1 & bits) == bits; }
    [[nodiscard]] bool forces(u32 bits) const { return (must_be_1 & bits) != 0; }
};

struct Capabilities {
    u64 basic = 0;
    Allowed pin{}, proc{}, proc2{}, exit{}, entry{};
    u64 misc = 0, ept_vpid = 0;
    u64 cr0_fixed0 = 0, cr0_fixed1 = 0, cr4_fixed0 = 0, cr4_fixed1 = 0;

    [[nodiscard]] u32 revision() const { return static_cast<u32>(basic) & 0x7fff'ffff; }

    // Only where CPUID says VMX.
    [[nodiscard]] static Capabilities read() {
        namespace m = x86::msr;
        Capabilities c;
        c.basic = x86::rdmsr(m::vmx_basic);
        const bool true_controls = (c.basic >> 55 & 1) != 0;
        c.pin = Allowed::of(x86::rdmsr(true_controls ? m::vmx_true_pin : m::vmx_pin));
        c.proc = Allowed::of(x86::rdmsr(true_controls ? m::vmx_true_proc : m::vmx_proc));
        c.exit = Allowed::of(x86::rdmsr(true_controls ? m::vmx_true_exit : m::vmx_exit));
        c.entry = Allowed::of(x86::rdmsr(true_controls ? m::vmx_true_entry : m::vmx_entry));
        c.misc = x86::rdmsr(m::vmx_misc);
        c.cr0_fixed0 = x86::rdmsr(m::vmx_cr0_fixed0);
        c.cr0_fixed1 = x86::rdmsr(m::vmx_cr0_fixed1);
        c.cr4_fixed0 = x86::rdmsr(m::vmx_cr4_fixed0);
        c.cr4_fixed1 = x86::rdmsr(m::vmx_cr4_fixed1);
        if (c.proc.offers(vmx::proc::secondary)) {
            c.proc2 = Allowed::of(x86::rdmsr(m::vmx_proc2));
            if ((c.proc2.may_be_1 & (vmx::proc2::ept | vmx::proc2::vpid)) != 0) {
                c.ept_vpid = x86::rdmsr(m::vmx_ept_vpid);
            }
        }
        return c;
    }

    // SDM 3D A.10
    [[nodiscard]] bool ept_walk4_wb() const { return (ept_vpid >> 6 & 1) != 0 && (ept_vpid >> 14 & 1) != 0; }
    [[nodiscard]] bool ept_2m() const { return (ept_vpid >> 16 & 1) != 0; }
    [[nodiscard]] bool ept_1g() const { return (ept_vpid >> 17 & 1) != 0; }
    [[nodiscard]] bool execute_only() const { return (ept_vpid & 1) != 0; }
    [[nodiscard]] bool invept_single() const {
        return (ept_vpid >> 20 & 1) != 0 && (ept_vpid >> 25 & 1) != 0;
    }
    [[nodiscard]] bool invept_all() const { return (ept_vpid >> 20 & 1) != 0 && (ept_vpid >> 26 & 1) != 0; }
    [[nodiscard]] bool invvpid_single() const {
        return (ept_vpid >> 32 & 1) != 0 && (ept_vpid >> 41 & 1) != 0;
    }
    [[nodiscard]] bool invvpid_all() const { return (ept_vpid >> 32 & 1) != 0 && (ept_vpid >> 42 & 1) != 0; }
};

} // namespace refhv::vmx
