// SPDX-License-Identifier: MIT
// Exits that a guest cannot time: with RDTSC intercepted it has no clock (RDTSC exiting covers RDTSCP on
// VMX), and the preemption timer needs no instruction at all. The host's stamps do it; see docs/method.md,
// "The host's clock".
#include "microbench/measure/row.hpp"

namespace refhv::bench {

using abi::Intercept;
using abi::Reason;
using client::on;

namespace {

std::string no_rdtscp(const client::HelloInfo& hello) {
    constexpr u32 rdtscp_bit = 1u << 27; // CPUID.80000001H:EDX
    return (front::cpuid(hello, 0x8000'0001, 0, 3) & rdtscp_bit) != 0
               ? ""
               : "no RDTSCP: CPUID.80000001H:EDX[27] is 0";
}

GUEST(one_rdtsc, "rdtsc")
SAMPLED_GUEST(guest_rdtsc, "", "", "rdtsc")
const Declare rdtsc{{.name = "exit.rdtsc",
                     .claims_about = "rdtsc",
                     .guest = guest_rdtsc,
                     .clock = Clock::host,
                     .repeated = one_rdtsc,
                     .reason = Reason::rdtsc,
                     .intercepts = on(Intercept::rdtsc),
                     .length = 2,
                     .native = true,
                     .user = true}};

GUEST(one_rdtscp, "rdtscp")
SAMPLED_GUEST(guest_rdtscp, "", "", "rdtscp")
const Declare rdtscp{{.name = "exit.rdtscp",
                      .claims_about = "rdtscp",
                      .guest = guest_rdtscp,
                      .clock = Clock::host,
                      .repeated = one_rdtscp,
                      .reason = Reason::rdtscp,
                      .intercepts = on(Intercept::rdtscp),
                      .length = 3,
                      .native = true,
                      .user = true,
                      .missing = no_rdtscp}};

GUEST(spin, "1: jmp 1b")
const Declare preemption_timer{{.name = "exit.preemption_timer",
                                .claims_about = "preemption_timer",
                                .clock = Clock::host_unprompted,
                                .repeated = spin,
                                .reason = Reason::preemption_timer,
                                .intercepts = on(Intercept::preemption_timer),
                                .action = abi::Action::resume,
                                .vendor = abi::Vendor::vmx}};

} // namespace

} // namespace refhv::bench
