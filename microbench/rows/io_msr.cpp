// SPDX-License-Identifier: MIT
// I/O ports and MSRs, intercepted and passed through. The port is the POST code's, 0x80; the MSR is
// KERNEL_GS_BASE, which no control of VMX or SVM treats specially.
#include "microbench/measure/row.hpp"

namespace refhv::bench {

using abi::Reason;

namespace {

constexpr abi::IoIntercept post_port(u16 on) {
    return {.vm = 0, .first = 0x80, .on = on, .count = 1, .zero = 0};
}
constexpr abi::MsrIntercept kernel_gs_base(u8 read, u8 write) {
    return {.vm = 0, .msr = 0xc000'0102, .read = read, .write = write, .zero = {}};
}

SAMPLED_GUEST(guest_in, "", "", "in $0x80, %al")
const Declare in{{.name = "exit.in",
                  .claims_about = "in",
                  .guest = guest_in,
                  .reason = Reason::io_in,
                  .ports = {post_port(1)},
                  .length = 2,
                  .native = true}};
const Declare in_passthrough{
    {.name = "exit.in_passthrough", .claims_about = "in", .guest = guest_in, .ports = {post_port(0)}}};

SAMPLED_GUEST(guest_out, "", "", "out %al, $0x80")
const Declare out{{.name = "exit.out",
                   .claims_about = "out",
                   .guest = guest_out,
                   .reason = Reason::io_out,
                   .ports = {post_port(1)},
                   .length = 2,
                   .native = true}};
const Declare out_passthrough{
    {.name = "exit.out_passthrough", .claims_about = "out", .guest = guest_out, .ports = {post_port(0)}}};

SAMPLED_GUEST(guest_rdmsr, "", "mov $0xc0000102, %ecx", "rdmsr")
const Declare rdmsr{{.name = "exit.rdmsr",
                     .claims_about = "rdmsr",
                     .guest = guest_rdmsr,
                     .reason = Reason::rdmsr,
                     .msrs = {kernel_gs_base(1, 0)},
                     .length = 2,
                     .native = true}};
const Declare rdmsr_passthrough{{.name = "exit.rdmsr_passthrough",
                                 .claims_about = "rdmsr",
                                 .guest = guest_rdmsr,
                                 .msrs = {kernel_gs_base(0, 0)}}};

// Written with what it holds; reading is never intercepted here.
SAMPLED_GUEST(guest_wrmsr, "mov $0xc0000102, %ecx\n rdmsr\n mov %eax, %esi\n mov %edx, %edi",
              "mov $0xc0000102, %ecx\n mov %esi, %eax\n mov %edi, %edx", "wrmsr")
const Declare wrmsr{{.name = "exit.wrmsr",
                     .claims_about = "wrmsr",
                     .guest = guest_wrmsr,
                     .reason = Reason::wrmsr,
                     .msrs = {kernel_gs_base(0, 1)},
                     .length = 2,
                     .native = true}};
const Declare wrmsr_passthrough{{.name = "exit.wrmsr_passthrough",
                                 .claims_about = "wrmsr",
                                 .guest = guest_wrmsr,
                                 .msrs = {kernel_gs_base(0, 0)}}};

} // namespace

} // namespace refhv::bench
