// SPDX-License-Identifier: MIT
// Which CPUID leaves and subleaves a processor has, so that none needs to be listed by hand.
//
// SDM 2A "CPUID"; APM 3 appendix E. Each leaf that has subleaves says in its own way how many; the ways are
// in subleaves_of(). Bounded, whatever the processor (or a hypervisor posing as one) answers. Freestanding.
#pragma once

#include "refhv/x86/cpuid.hpp"

namespace refhv::x86 {

// No more than this many (leaf, subleaf) pairs are reported.
inline constexpr u32 max_cpuid_leaves = 512;

namespace detail {

// A set of subleaves; no leaf known today uses a number above 63.
struct Subleaves {
    u64 bits = 1;
    [[nodiscard]] static constexpr Subleaves up_to(u32 last) {
        return {last >= 63 ? ~u64{0} : (u64{2} << last) - 1};
    }
};

// Subleaves 0..n where n+1 is the first for which `more` is false; at most `limit` of them.
template <class Read, class More>
[[nodiscard]] constexpr Subleaves while_valid(Read& read, u32 leaf, u32 first, u32 limit, More more) {
    u32 n = first;
    while (n < limit && more(read(leaf, n))) {
        ++n;
    }
    return Subleaves::up_to(n == 0 ? 0 : n - 1);
}

template <class Read>
[[nodiscard]] constexpr Subleaves subleaves_of(Read& read, u32 leaf) {
    constexpr auto has_cache_type = [](const abi::CpuidLeaf& l) { return (l.eax & 0x1f) != 0; };
    constexpr auto has_level_type = [](const abi::CpuidLeaf& l) { return (l.ecx & 0xff00) != 0; };
    constexpr auto has_section = [](const abi::CpuidLeaf& l) { return (l.eax & 0xf) != 0; };
    switch (leaf) {
    case 0x4:         // deterministic cache parameters
    case 0x8000'001d: // the same on AMD
        return while_valid(read, leaf, 0, 16, has_cache_type);
    case 0xb:         // extended topology
    case 0x1f:        // V2 extended topology
    case 0x8000'0026: // the same on AMD
        return while_valid(read, leaf, 0, 16, has_level_type);
    case 0x7:  // structured features; all of these: EAX of subleaf 0 is the last subleaf
    case 0x14: // processor trace
    case 0x17: // SoC vendor
    case 0x18: // address translation parameters
    case 0x1d: // tile information
    case 0x20: // processor history reset
    case 0x24: // converged vector ISA
        return Subleaves::up_to(read(leaf, 0).eax);
    case 0xd: { // state components: XCR0 bits in EDX:EAX of subleaf 0, IA32_XSS bits in EDX:ECX of subleaf 1
        const abi::CpuidLeaf user = read(leaf, 0);
        const abi::CpuidLeaf system = read(leaf, 1);
        const u64 components = (u64{user.edx} << 32 | user.eax) | (u64{system.edx} << 32 | system.ecx);
        return {components | 3};
    }
    case 0xf: // L3 monitoring, bit 1 of EDX
        return {1 | (u64{read(leaf, 0).edx} & 2)};
    case 0x10:        // allocation: ResID bits 1.. in EBX
    case 0x8000'0020: // the same on AMD
        return {1 | (u64{read(leaf, 0).ebx} & 0xfffe)};
    case 0x12: // SGX: 0 and 1 fixed, EPC sections from 2
        if ((read(0x7, 0).ebx & 1u << 2) == 0) {
            return {};
        }
        return while_valid(read, leaf, 2, 16, has_section);
    case 0x1b: // PCONFIG
        return while_valid(read, leaf, 0, 16, has_section);
    case 0x23: // architectural performance monitoring: a bit per subleaf
        return {u64{read(leaf, 0).eax} | 1};
    default:
        return {};
    }
}

} // namespace detail

// Calls emit(const abi::CpuidLeaf&) for every leaf and subleaf, in ascending order: the basic range, the
// hypervisors' (where CPUID.1:ECX[31] announces one; the second starts at 40000100H, where a hypervisor that
// also poses as another puts its own), the extended. `read(leaf, subleaf)` returns an abi::CpuidLeaf:
// x86::cpuid, or a table in a test. Returns how many were emitted, at most max_cpuid_leaves.
template <class Read, class Emit>
constexpr u32 enumerate_cpuid(Read&& read, Emit&& emit) {
    constexpr u32 longest_range = 0x100; // leaves; none is near it today
    u32 emitted = 0;
    const auto range = [&](u32 first, u32 last) {
        if (last - first >= longest_range) { // nothing there: such a leaf returns another's data
            return;
        }
        for (u32 leaf = first; leaf <= last; ++leaf) {
            const u64 subleaves = detail::subleaves_of(read, leaf).bits;
            for (u32 subleaf = 0; subleaf < 64 && emitted < max_cpuid_leaves; ++subleaf) {
                if ((subleaves >> subleaf & 1) != 0) {
                    emit(read(leaf, subleaf));
                    ++emitted;
                }
            }
        }
    };
    range(0, read(0, 0).eax);
    if ((read(1, 0).ecx >> 31) != 0) {
        const u32 last = read(0x4000'0000, 0).eax;
        range(0x4000'0000, last == 0 ? 0x4000'0001 : last); // KVM once left EAX 0 and meant 40000001H
        range(0x4000'0100, read(0x4000'0100, 0).eax);
    }
    range(0x8000'0000, read(0x8000'0000, 0).eax);
    return emitted;
}

// The same, on the CPU at hand.
template <class Emit>
u32 enumerate_cpuid(Emit&& emit) {
    return enumerate_cpuid([](u32 leaf, u32 subleaf) { return cpuid(leaf, subleaf); }, emit);
}

} // namespace refhv::x86
