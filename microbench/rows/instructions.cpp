// SPDX-License-Identifier: MIT
// Instructions that exit because of what they are.
#include "microbench/measure/row.hpp"

namespace refhv::bench {

using abi::Intercept;
using abi::Reason;
using abi::Vendor;
using client::on;

namespace {

constexpr u32 monitor_bit = 1u << 3; // CPUID.01H:ECX
constexpr u32 xsave_bit = 1u << 26;  // CPUID.01H:ECX

std::string no_monitor(const client::HelloInfo& hello) {
    return (front::cpuid(hello, 1, 0, 2) & monitor_bit) != 0 ? "" : "no MONITOR/MWAIT: CPUID.01H:ECX[3] is 0";
}
std::string no_xsave(const client::HelloInfo& hello) {
    return (front::cpuid(hello, 1, 0, 2) & xsave_bit) != 0 ? "" : "no XSETBV: CPUID.01H:ECX[26] is 0";
}

SAMPLED_GUEST(guest_cpuid, "", "xor %eax, %eax", "cpuid")
const Declare cpuid{{.name = "exit.cpuid",
                     .claims_about = "cpuid",
                     .guest = guest_cpuid,
                     .reason = Reason::cpuid,
                     .intercepts = on(Intercept::cpuid),
                     .length = 2,
                     .native = true,
                     .user = true}};

SAMPLED_GUEST(guest_vmcall, "", "", "vmcall")
const Declare vmcall{{.name = "exit.vmcall",
                      .claims_about = "vmcall",
                      .guest = guest_vmcall,
                      .reason = Reason::hypercall,
                      .intercepts = on(Intercept::hypercall),
                      .length = 3,
                      .kvm = true,
                      .vendor = Vendor::vmx}};

SAMPLED_GUEST(guest_vmmcall, "", "", "vmmcall")
const Declare vmmcall{{.name = "exit.vmmcall",
                       .claims_about = "vmmcall",
                       .guest = guest_vmmcall,
                       .reason = Reason::hypercall,
                       .intercepts = on(Intercept::hypercall),
                       .length = 3,
                       .kvm = true,
                       .vendor = Vendor::svm}};

SAMPLED_GUEST(guest_hlt, "", "", "hlt")
const Declare hlt{{.name = "exit.hlt",
                   .claims_about = "hlt",
                   .guest = guest_hlt,
                   .reason = Reason::hlt,
                   .intercepts = on(Intercept::hlt),
                   .length = 1,
                   .stop = client::Stop::port,
                   .kvm = true}};

SAMPLED_GUEST(guest_pause, "", "", "pause")
const Declare pause{{.name = "exit.pause",
                     .claims_about = "pause",
                     .guest = guest_pause,
                     .reason = Reason::pause,
                     .intercepts = on(Intercept::pause),
                     .length = 2,
                     .native = true,
                     .user = true}};

SAMPLED_GUEST(guest_wbinvd, "", "", "wbinvd")
const Declare wbinvd{{.name = "exit.wbinvd",
                      .claims_about = "wbinvd",
                      .guest = guest_wbinvd,
                      .reason = Reason::wbinvd,
                      .intercepts = on(Intercept::wbinvd),
                      .length = 2,
                      .native = true}};

SAMPLED_GUEST(guest_invlpg, "mov $" REFHV_ASM(REFHV_SCRATCH) ", %esi", "", "invlpg (%rsi)")
const Declare invlpg{{.name = "exit.invlpg",
                      .claims_about = "invlpg",
                      .guest = guest_invlpg,
                      .reason = Reason::invlpg,
                      .intercepts = on(Intercept::invlpg),
                      .length = 3,
                      .native = true}};

// XCR0 is written with what it holds.
SAMPLED_GUEST(guest_xsetbv, "xor %ecx, %ecx\n xgetbv\n mov %eax, %esi\n mov %edx, %edi",
              "xor %ecx, %ecx\n mov %esi, %eax\n mov %edi, %edx", "xsetbv")
const Declare xsetbv{{.name = "exit.xsetbv",
                      .claims_about = "xsetbv",
                      .guest = guest_xsetbv,
                      .reason = Reason::xsetbv,
                      .intercepts = on(Intercept::xsetbv),
                      .length = 3,
                      .osxsave = true,
                      .native = true,
                      .missing = no_xsave}};

SAMPLED_GUEST(guest_monitor, "", "mov $" REFHV_ASM(REFHV_SCRATCH) ", %eax\n xor %ecx, %ecx\n xor %edx, %edx",
              "monitor")
const Declare monitor{{.name = "exit.monitor",
                       .claims_about = "monitor",
                       .guest = guest_monitor,
                       .reason = Reason::monitor,
                       .intercepts = on(Intercept::monitor),
                       .length = 3,
                       .missing = no_monitor}};

SAMPLED_GUEST(guest_mwait, "", "xor %eax, %eax\n xor %ecx, %ecx", "mwait")
const Declare mwait{{.name = "exit.mwait",
                     .claims_about = "mwait",
                     .guest = guest_mwait,
                     .reason = Reason::mwait,
                     .intercepts = on(Intercept::mwait),
                     .length = 3,
                     .missing = no_monitor}};

} // namespace

} // namespace refhv::bench
