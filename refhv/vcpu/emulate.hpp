// SPDX-License-Identifier: MIT
// What `emulate` means for instructions that need no vendor's help: their architectural effect on the
// registers.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::x86 {

[[nodiscard]] constexpr bool emulates(abi::Reason reason) {
    using enum abi::Reason;
    return reason == cpuid || reason == rdtsc || reason == rdtscp || reason == hlt || reason == pause ||
           reason == rdmsr || reason == wrmsr;
}

// MSRs that hold the guest's own value while it runs, so that RDMSR and WRMSR on the host are the guest's.
[[nodiscard]] constexpr bool is_guest_msr(u64 index) {
    return (index >= msr::star && index <= msr::sfmask) || index == msr::kernel_gs_base;
}

// What WRMSR writes.
[[nodiscard]] inline u64 edx_eax(const u64* gpr) {
    return static_cast<u32>(gpr[abi::rax]) | gpr[abi::rdx] << 32;
}

// RDMSR or WRMSR of one of those; `value` is where the guest's value lies. false: it would be a #GP.
[[nodiscard]] inline bool emulate_msr(abi::Reason reason, u64* gpr, u64& value) {
    if (reason == abi::Reason::rdmsr) {
        gpr[abi::rax] = static_cast<u32>(value);
        gpr[abi::rdx] = value >> 32;
        return true;
    }
    const u64 wanted = edx_eax(gpr);
    const u32 index = static_cast<u32>(gpr[abi::rcx]);
    const bool is_address = index != msr::star && index != msr::sfmask;
    if (is_address && static_cast<u64>(static_cast<i64>(wanted << 16) >> 16) != wanted) {
        return false;
    }
    value = wanted;
    return true;
}

// WRMSR of IA32_EFER by a guest that has `cr0` and `efer`; what it has then. false: it would be a #GP (SDM 4
// table 2-2; APM 2 3.1.7). LMA is the processor's own, and LME cannot change under paging.
[[nodiscard]] inline bool emulate_write_efer(u64 wanted, u64 cr0, u64& efer) {
    const bool has_nx = (x86::cpuid(0x8000'0001).edx >> 20 & 1) != 0;
    const u64 mine = efer::sce | efer::lme | (has_nx ? efer::nxe : 0);
    const u64 changed = (wanted ^ efer) & ~(efer::lma | efer::svme);
    if ((changed & ~mine) != 0 || ((changed & efer::lme) != 0 && (cr0 & cr0::pg) != 0)) {
        return false;
    }
    efer ^= changed;
    return true;
}

// Everything else that emulates() names; not MSRs. The caller advances RIP.
[[nodiscard]] inline bool emulate(abi::Reason reason, u64* gpr) {
    using enum abi::Reason;
    const auto set_edx_eax = [&](u64 value) {
        gpr[abi::rax] = static_cast<u32>(value);
        gpr[abi::rdx] = value >> 32;
    };
    switch (reason) {
    case cpuid: {
        const abi::CpuidLeaf r = x86::cpuid(static_cast<u32>(gpr[abi::rax]), static_cast<u32>(gpr[abi::rcx]));
        gpr[abi::rax] = r.eax;
        gpr[abi::rbx] = r.ebx;
        gpr[abi::rcx] = r.ecx;
        gpr[abi::rdx] = r.edx;
        return true;
    }
    case rdtscp:
        gpr[abi::rcx] = static_cast<u32>(x86::rdmsr(msr::tsc_aux));
        set_edx_eax(rdtsc_fenced());
        return true;
    case rdtsc:
        set_edx_eax(rdtsc_fenced());
        return true;
    case hlt:
    case pause:
        return true;
    default:
        return false;
    }
}

} // namespace refhv::x86
