// SPDX-License-Identifier: MIT
#include "refhv/self/tsc_rate.hpp"

#include "refhv/x86/cpuid_leaves.hpp"

#include <ctime>
#include <x86intrin.h>

namespace refhv::client {
namespace {

struct Moment {
    u64 tsc;
    u64 ns;
};

// The clock read within the shortest of a few brackets of the TSC, so that an interrupt in one does no harm.
Moment now() {
    Moment best{};
    for (u64 attempt = 0, shortest = ~u64{0}; attempt < 8; ++attempt) {
        timespec time{};
        const u64 before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &time);
        const u64 after = __rdtsc();
        if (after - before < shortest) {
            shortest = after - before;
            best = {.tsc = before + shortest / 2,
                    .ns = static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec)};
        }
    }
    return best;
}

u64 calibrate() {
    const Moment begin = now();
    constexpr timespec wait{.tv_sec = 0, .tv_nsec = 20'000'000};
    nanosleep(&wait, nullptr);
    const Moment end = now();
    return static_cast<u64>(static_cast<unsigned __int128>(end.tsc - begin.tsc) * 1'000'000'000 /
                            (end.ns - begin.ns));
}

} // namespace

TscRate tsc_rate() {
    const u32 last = x86::cpuid(0, 0).eax;
    if (last >= 0x15) { // ECX: crystal clock in Hz; EBX/EAX: TSC ticks per crystal tick (SDM 2A "CPUID")
        const abi::CpuidLeaf l = x86::cpuid(0x15, 0);
        if (l.eax != 0 && l.ebx != 0 && l.ecx != 0) {
            return {u64{l.ecx} * l.ebx / l.eax, abi::TscSource::cpuid_15h};
        }
    }
    if ((x86::cpuid(1, 0).ecx >> 31) != 0) { // EAX: kHz; VMware's convention, KVM and others follow
        const u32 hypervisor_last = x86::cpuid(0x4000'0000, 0).eax;
        const u32 khz = x86::cpuid(0x4000'0010, 0).eax;
        if (hypervisor_last >= 0x4000'0010 && hypervisor_last < 0x4000'0100 && khz != 0) {
            return {u64{khz} * 1000, abi::TscSource::hypervisor_leaf};
        }
    }
    // CPUID.16H gives the base frequency in MHz, which is the TSC's only nominally: measuring is better.
    return {calibrate(), abi::TscSource::calibrated};
}

} // namespace refhv::client
