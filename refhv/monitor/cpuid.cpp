// SPDX-License-Identifier: MIT
// Bits are let through by name: what is not listed is not offered (SDM 2A, CPUID; APM 3 appendix E).
#include "refhv/monitor/cpuid.hpp"

#include "refhv/x86/registers.hpp"

#include <algorithm>
#include <cstring>

namespace refhv::monitor {

namespace {

template <class... Bit>
constexpr u32 bits(Bit... bit) {
    return (0u | ... | (1u << bit));
}

// 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C, RDRAND.
constexpr u32 feature_ecx = bits(0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28, 29, 30);
constexpr u32 osxsave = bits(27), hypervisor = bits(31);
// 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, SEP, PGE, MCA, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR, SSE,
// SSE2.
constexpr u32 feature_edx = bits(0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26);
constexpr u32 apic_bit = bits(9), x2apic = bits(21), tsc_deadline = bits(24); // the last two of ECX
// 7.0 EBX: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, AVX512F, AVX512DQ, RDSEED, ADX, SMAP, AVX512IFMA,
// CLFLUSHOPT, CLWB, AVX512CD, SHA, AVX512BW, AVX512VL.
constexpr u32 extended_ebx = bits(0, 3, 5, 7, 8, 9, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31);
// 7.0 ECX: AVX512_VBMI, UMIP, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ.
constexpr u32 extended_ecx = bits(1, 2, 6, 8, 9, 10, 11, 12, 14);
constexpr u32 extended_edx = bits(4); // fast short REP MOV
// 80000001H ECX: LAHF64, ABM, SSE4A, misaligned SSE, PREFETCHW. EDX: as 1 EDX, SYSCALL, NX, MMX+, FFXSR,
// 1-GByte pages, RDTSCP, long mode.
constexpr u32 amd_ecx = bits(0, 5, 6, 7, 8);
constexpr u32 amd_edx = feature_edx | bits(11, 20, 22, 25, 26, 27, 29);
constexpr u32 xsave_variants = bits(0, 1, 2); // XSAVEOPT, XSAVEC, XGETBV 1: not XSAVES, which has an MSR
constexpr u64 with_msr = u64{1} << 9 | u64{3} << 17; // components PKRU and AMX

} // namespace

CpuModel::CpuModel(const client::HelloInfo& hello, bool apic) : leaves_(hello.cpuid), apic_(apic) {
    max_basic_ = std::min(host(0, 0).eax, u32{0xd});
    max_extended_ = std::min(host(0x8000'0000, 0).eax, u32{0x8000'0008});
    const abi::CpuidLeaf features = host(1, 0);
    if ((features.ecx & bits(26)) != 0 && (features.ecx & osxsave) != 0 && max_basic_ == 0xd) {
        const abi::CpuidLeaf main = host(0xd, 0);
        components_ = (main.eax | u64{main.edx} << 32) & ~with_msr;
    }
    const u32 extended = host(0x8000'0001, 0).edx;
    using namespace x86::efer;
    efer_ = (extended >> 11 & 1) * sce + (extended >> 20 & 1) * nxe + (extended >> 29 & 1) * (lme | lma);
    if ((extended >> 25 & 1) != 0) {
        efer_ |= 1u << 14; // FFXSR
    }
}

abi::CpuidLeaf CpuModel::host(u32 leaf, u32 subleaf) const {
    const auto found = std::ranges::find_if(
        leaves_, [&](const abi::CpuidLeaf& l) { return l.leaf == leaf && l.subleaf == subleaf; });
    return found != leaves_.end() ? *found : abi::CpuidLeaf{leaf, subleaf, 0, 0, 0, 0};
}

abi::CpuidLeaf CpuModel::xsave(u32 subleaf, const abi::GuestState& state) const {
    abi::CpuidLeaf l = host(0xd, subleaf);
    if (components_ == 0) {
        return {0xd, subleaf, 0, 0, 0, 0};
    }
    const auto size_of = [&](u64 components) {
        u32 size = 512 + 64; // the legacy region and the header
        for (u32 i = 2; i < 63; ++i) {
            if ((components >> i & 1) != 0) {
                const abi::CpuidLeaf part = host(0xd, i);
                size = std::max(size, part.ebx + part.eax);
            }
        }
        return size;
    };
    if (subleaf == 0) {
        l.eax = static_cast<u32>(components_);
        l.edx = static_cast<u32>(components_ >> 32);
        l.ebx = size_of(state.xcr0);
        l.ecx = size_of(components_);
    } else if (subleaf == 1) {
        l.eax &= xsave_variants;
        l.ebx = l.ecx = l.edx = 0;
    } else if (subleaf > 62 || (components_ >> subleaf & 1) == 0) {
        l.eax = l.ebx = l.ecx = l.edx = 0;
    }
    return l;
}

abi::CpuidLeaf CpuModel::leaf(u32 number, u32 subleaf, const abi::GuestState& state) const {
    const auto nothing = [&] { return abi::CpuidLeaf{number, subleaf, 0, 0, 0, 0}; };
    constexpr u32 own = 0x4000'0000;
    if (number == own) {
        abi::CpuidLeaf l{number, subleaf, own, 0, 0, 0};
        constexpr char name[] = "refhvrefhv\0";
        static_assert(sizeof name == 12);
        std::memcpy(&l.ebx, name, 4);
        std::memcpy(&l.ecx, name + 4, 4);
        std::memcpy(&l.edx, name + 8, 4);
        return l;
    }
    const bool extended = number >= 0x8000'0000;
    if (number > (extended ? max_extended_ : max_basic_)) {
        return nothing();
    }
    abi::CpuidLeaf l = host(number, 0);
    switch (number) {
    case 0:
        l.eax = max_basic_;
        return l;
    case 1:
        l.ebx = (l.ebx & 0xff00) | 1u << 16; // CLFLUSH size; one logical processor, APIC ID 0
        l.ecx = (l.ecx & feature_ecx & ~(components_ == 0 ? bits(12, 26, 28, 29) : 0)) | hypervisor |
                ((state.cr4 & x86::cr4::osxsave) != 0 ? osxsave : 0) | (apic_ ? x2apic | tsc_deadline : 0);
        l.edx = (l.edx & feature_edx) | (apic_ ? apic_bit : 0);
        return l;
    case 2: // TLBs and caches of old
        return l;
    case 4: { // caches, of one processor
        l = host(4, subleaf);
        l.eax &= 0x3fff;
        return l;
    }
    case 7:
        if (subleaf != 0) {
            return nothing();
        }
        l.eax = 0;
        l.ebx &= extended_ebx & ~(components_ == 0 ? bits(5, 16, 17, 21, 28, 30, 31) : 0);
        l.ecx &= extended_ecx & ~(components_ == 0 ? bits(1, 6, 9, 10, 11, 12, 14) : 0);
        l.edx &= extended_edx;
        return l;
    case 0xd:
        return xsave(subleaf, state);
    case 0x8000'0000:
        l.eax = max_extended_;
        return l;
    case 0x8000'0001:
        l.ecx &= amd_ecx;
        l.edx &= amd_edx;
        l.edx |= apic_ && (host(0, 0).ecx == 0x444d4163) ? apic_bit : 0; // repeated on AMD's CPUs
        return l;
    case 0x8000'0002:
    case 0x8000'0003:
    case 0x8000'0004:
    case 0x8000'0005:
    case 0x8000'0006:
        return l;
    case 0x8000'0007:
        return {number, subleaf, 0, 0, 0, l.edx & bits(8)}; // the TSC never stops
    case 0x8000'0008:
        return {number, subleaf, l.eax & 0xffff, 0, 0, 0};
    default:
        return nothing();
    }
}

} // namespace refhv::monitor
