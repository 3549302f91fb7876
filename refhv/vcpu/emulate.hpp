// SPDX-License-Identifier: MIT
// What `emulate` means for instructions whose architectural effect is one on registers.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/x86/address.hpp"
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

// What RDMSR, RDTSC and RDTSCP read.
inline void set_edx_eax(u64* gpr, u64 value) {
    gpr[abi::rax] = static_cast<u32>(value);
    gpr[abi::rdx] = value >> 32;
}

// May one of those MSRs, whose number is `index`, hold this? Else WRMSR is #GP.
[[nodiscard]] constexpr bool is_guest_msr_value(u32 index, u64 value) {
    if (index == msr::sfmask) { // SDM 4 table 2-2, APM 2 6.1.1: bits 63:32 are reserved
        return value >> 32 == 0;
    }
    const bool is_address = index != msr::star;
    return !is_address || is_canonical(value, linear_bits_level4);
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

// What emulates() names besides MSRs.
[[nodiscard]] inline bool emulate(abi::Reason reason, u64* gpr) {
    using enum abi::Reason;
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
        set_edx_eax(gpr, rdtsc_fenced());
        return true;
    case rdtsc:
        set_edx_eax(gpr, rdtsc_fenced());
        return true;
    case hlt:
    case pause:
        return true;
    default:
        return false;
    }
}

// What an emulation needs of a vCPU besides the general registers: the guest's CR0, and where its EFER and
// its is_guest_msr() lie while C++ runs. `guest_msr`: false for every other MSR.
template <class V>
concept HoldsGuestMsrs = requires(V v, u64 value, u64& out) {
    { v.guest_cr0() } -> std::same_as<u64>;
    { v.guest_msr(u32{}, out) } -> std::same_as<bool>;
    v.set_guest_msr(u32{}, value);
};

// RDMSR and WRMSR, and a write of the ICR, which goes to the peer. EFER not in modes shadow and vtlb: there
// it decides about translation. false: it would be a #GP, or is not ours to emulate.
template <HoldsGuestMsrs V>
[[nodiscard]] bool emulate_msr(V& vcpu, abi::Reason reason, u64* gpr, const IpiTarget& ipis) {
    const u32 index = static_cast<u32>(gpr[abi::rcx]);
    const bool is_write = reason == abi::Reason::wrmsr;
    const u64 wanted = edx_eax(gpr);
    if (index == msr::x2apic_icr) {
        return is_write && ipis.send(wanted);
    }
    u64 value = 0;
    if (!vcpu.guest_msr(index, value)) {
        return false;
    }
    if (!is_write) {
        set_edx_eax(gpr, value);
        return true;
    }
    if (index != msr::efer) {
        value = wanted;
    }
    if (!(index == msr::efer ? emulate_write_efer(wanted, vcpu.guest_cr0(), value)
                             : is_guest_msr_value(index, value))) {
        return false;
    }
    vcpu.set_guest_msr(index, value);
    return true;
}

// Everything that emulates() names. The caller advances RIP.
template <HoldsGuestMsrs V>
[[nodiscard]] bool emulate(V& vcpu, abi::Reason reason, u64* gpr, const IpiTarget& ipis) {
    const bool is_msr = reason == abi::Reason::rdmsr || reason == abi::Reason::wrmsr;
    return is_msr ? emulate_msr(vcpu, reason, gpr, ipis) : emulate(reason, gpr);
}

} // namespace refhv::x86
