// SPDX-License-Identifier: MIT
// Instructions that exit because of what they are.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::GuestState;
using abi::Intercept;
using abi::Reason;
using client::on;

namespace {

constexpr u32 monitor_bit = 1u << 3; // CPUID.01H:ECX
constexpr u32 xsave_bit = 1u << 26;  // CPUID.01H:ECX
constexpr u32 rdtscp_bit = 1u << 27; // CPUID.80000001H:EDX

std::string no_monitor(const client::HelloInfo& hello) {
    return (cpuid(hello, 1, 0, 2) & monitor_bit) != 0 ? "" : "no MONITOR/MWAIT: CPUID.01H:ECX[3] is 0";
}
std::string no_xsave(const client::HelloInfo& hello) {
    return (cpuid(hello, 1, 0, 2) & xsave_bit) != 0 ? "" : "no XSETBV: CPUID.01H:ECX[26] is 0";
}
std::string no_rdtscp(const client::HelloInfo& hello) {
    return (cpuid(hello, 0x8000'0001, 0, 3) & rdtscp_bit) != 0 ? ""
                                                               : "no RDTSCP: CPUID.80000001H:EDX[27] is 0";
}

void scratch_in_rsi(GuestState& s) {
    s.gpr[abi::rsi] = REFHV_SCRATCH;
}

constexpr const char* conditional = "SDM 3C 26.1.3";
constexpr const char* unconditional = "SDM 3C 26.1.2";
constexpr const char* intercepts = "APM 2 15.9";
constexpr Masked zero{0};

GUEST(guest_cpuid, "cpuid")
EXIT_CLAIMS(cpuid, .code = guest_cpuid, .reason = Reason::cpuid, .intercepts = on(Intercept::cpuid),
            .vmx = {.raw = 10, .section = unconditional, .qualification = zero, .unconditional = true},
            .svm = {.raw = 0x72, .section = intercepts})

GUEST(guest_vmcall, "vmcall")
EXIT_CLAIMS(vmcall, .code = guest_vmcall, .reason = Reason::hypercall, .intercepts = on(Intercept::hypercall),
            .vmx = {.raw = 18, .section = unconditional, .qualification = zero, .unconditional = true})

GUEST(guest_vmmcall, "vmmcall")
EXIT_CLAIMS(vmmcall, .code = guest_vmmcall, .reason = Reason::hypercall,
            .intercepts = on(Intercept::hypercall), .svm = {.raw = 0x81, .section = intercepts},
            .otherwise = Otherwise::exception, .vector = 6)

GUEST(guest_rdtsc, "rdtsc")
EXIT_CLAIMS(rdtsc, .code = guest_rdtsc, .reason = Reason::rdtsc, .intercepts = on(Intercept::rdtsc),
            .vmx = {.raw = 16, .section = conditional, .qualification = zero},
            .svm = {.raw = 0x6e, .section = intercepts})

GUEST(guest_rdtscp, "rdtscp")
EXIT_CLAIMS(rdtscp, .code = guest_rdtscp, .reason = Reason::rdtscp, .intercepts = on(Intercept::rdtscp),
            .vmx = {.raw = 51, .section = conditional, .qualification = zero},
            .svm = {.raw = 0x87, .section = intercepts}, .missing = no_rdtscp)

GUEST(guest_pause, "pause")
EXIT_CLAIMS(pause, .code = guest_pause, .reason = Reason::pause, .intercepts = on(Intercept::pause),
            .vmx = {.raw = 40, .section = conditional, .qualification = zero},
            .svm = {.raw = 0x77, .section = intercepts})

GUEST(guest_wbinvd, "wbinvd")
EXIT_CLAIMS(wbinvd, .code = guest_wbinvd, .reason = Reason::wbinvd, .intercepts = on(Intercept::wbinvd),
            .vmx = {.raw = 54, .section = conditional, .qualification = zero},
            .svm = {.raw = 0x89, .section = intercepts})

GUEST(guest_invlpg, "invlpg (%rsi)")
EXIT_CLAIMS(invlpg, .code = guest_invlpg, .reason = Reason::invlpg, .intercepts = on(Intercept::invlpg),
            .vmx = {.raw = 14, .section = conditional, .qualification = Masked{REFHV_SCRATCH}},
            .svm = {.raw = 0x79,
                    .section = "APM 2 15.9, 15.8.3",
                    .qualification = Masked{REFHV_SCRATCH},
                    .needs_decode_assists = true},
            .prepare = scratch_in_rsi)

// XCR0 := 1, the value it has after reset.
GUEST(guest_xsetbv, "xsetbv")
EXIT_CLAIMS(
    xsetbv, .code = guest_xsetbv, .reason = Reason::xsetbv, .intercepts = on(Intercept::xsetbv),
    .vmx = {.raw = 55, .section = unconditional, .qualification = zero, .unconditional = true},
    .svm = {.raw = 0x8d, .section = intercepts}, .osxsave = true,
    .prepare =
        [](GuestState& s) {
            s.gpr[abi::rcx] = 0;
            s.gpr[abi::rax] = 1;
            s.gpr[abi::rdx] = 0;
        },
    .missing = no_xsave)

GUEST(guest_monitor, "monitor")
EXIT_CLAIMS(
    monitor, .code = guest_monitor, .reason = Reason::monitor, .intercepts = on(Intercept::monitor),
    .vmx = {.raw = 39, .section = conditional, .qualification = zero},
    .svm = {.raw = 0x8a, .section = intercepts},
    .prepare =
        [](GuestState& s) {
            s.gpr[abi::rax] = REFHV_SCRATCH;
            s.gpr[abi::rcx] = 0;
            s.gpr[abi::rdx] = 0;
        },
    .missing = no_monitor)

} // namespace

} // namespace refhv::front
