// SPDX-License-Identifier: MIT
// MOV to and from control and debug registers.
#include "microbench/measure/row.hpp"

namespace refhv::bench {

using abi::Intercept;
using abi::Reason;
using client::on;

namespace {

constexpr u8 mov_cr_length = 3;
constexpr u8 mov_cr8_length = 4; // with REX.R

// VMX never exits here, the guest gets the read shadow (SDM 3C 26.3).
SAMPLED_GUEST(guest_mov_from_cr0, "", "", "mov %cr0, %rsi")
const Declare mov_from_cr0{{.name = "exit.mov_from_cr0",
                            .claims_about = "mov_from_cr0",
                            .guest = guest_mov_from_cr0,
                            .reason = Reason::cr0_read,
                            .intercepts = on(Intercept::cr0_read),
                            .length = mov_cr_length,
                            .native = true,
                            .vendor = abi::Vendor::svm}};

// TS flipped: VMX exits only where a host-owned bit differs from the read shadow (SDM 3C 26.1.3).
SAMPLED_GUEST(guest_mov_to_cr0, "mov %cr0, %rsi\n mov %rsi, %rdi\n xor $8, %rsi", "", "mov %rsi, %cr0")
GUEST(restore_cr0, "mov %rdi, %cr0")
const Declare mov_to_cr0{{.name = "exit.mov_to_cr0",
                          .claims_about = "mov_to_cr0",
                          .guest = guest_mov_to_cr0,
                          .reason = Reason::cr0_write,
                          .intercepts = on(Intercept::cr0_write),
                          .length = mov_cr_length,
                          .native = true,
                          .restore = restore_cr0}};

SAMPLED_GUEST(guest_mov_from_cr3, "", "", "mov %cr3, %rsi")
const Declare mov_from_cr3{{.name = "exit.mov_from_cr3",
                            .claims_about = "mov_from_cr3",
                            .guest = guest_mov_from_cr3,
                            .reason = Reason::cr3_read,
                            .intercepts = on(Intercept::cr3_read),
                            .length = mov_cr_length,
                            .native = true}};

SAMPLED_GUEST(guest_mov_to_cr3, "mov %cr3, %rsi", "", "mov %rsi, %cr3")
const Declare mov_to_cr3{{.name = "exit.mov_to_cr3",
                          .claims_about = "mov_to_cr3",
                          .guest = guest_mov_to_cr3,
                          .reason = Reason::cr3_write,
                          .intercepts = on(Intercept::cr3_write),
                          .length = mov_cr_length,
                          .native = true}};

// As with CR0.
SAMPLED_GUEST(guest_mov_from_cr4, "", "", "mov %cr4, %rsi")
const Declare mov_from_cr4{{.name = "exit.mov_from_cr4",
                            .claims_about = "mov_from_cr4",
                            .guest = guest_mov_from_cr4,
                            .reason = Reason::cr4_read,
                            .intercepts = on(Intercept::cr4_read),
                            .length = mov_cr_length,
                            .native = true,
                            .vendor = abi::Vendor::svm}};

// PCE flipped, for the same reason as TS above.
SAMPLED_GUEST(guest_mov_to_cr4, "mov %cr4, %rsi\n mov %rsi, %rdi\n xor $0x100, %rsi", "", "mov %rsi, %cr4")
GUEST(restore_cr4, "mov %rdi, %cr4")
const Declare mov_to_cr4{{.name = "exit.mov_to_cr4",
                          .claims_about = "mov_to_cr4",
                          .guest = guest_mov_to_cr4,
                          .reason = Reason::cr4_write,
                          .intercepts = on(Intercept::cr4_write),
                          .length = mov_cr_length,
                          .native = true,
                          .restore = restore_cr4}};

SAMPLED_GUEST(guest_mov_from_cr8, "", "", "mov %cr8, %rsi")
const Declare mov_from_cr8{{.name = "exit.mov_from_cr8",
                            .claims_about = "mov_from_cr8",
                            .guest = guest_mov_from_cr8,
                            .reason = Reason::cr8_read,
                            .intercepts = on(Intercept::cr8_read),
                            .length = mov_cr8_length,
                            .native = true}};

SAMPLED_GUEST(guest_mov_to_cr8, "mov %cr8, %rsi", "", "mov %rsi, %cr8")
const Declare mov_to_cr8{{.name = "exit.mov_to_cr8",
                          .claims_about = "mov_to_cr8",
                          .guest = guest_mov_to_cr8,
                          .reason = Reason::cr8_write,
                          .intercepts = on(Intercept::cr8_write),
                          .length = mov_cr8_length,
                          .native = true}};

SAMPLED_GUEST(guest_mov_from_dr7, "", "", "mov %dr7, %rsi")
const Declare mov_from_dr7{{.name = "exit.mov_from_dr7",
                            .claims_about = "mov_from_dr7",
                            .guest = guest_mov_from_dr7,
                            .reason = Reason::dr_read,
                            .intercepts = on(Intercept::dr_read),
                            .length = mov_cr_length,
                            .native = true}};

// The value after reset; reading it first would exit as well, VMX has one control for both directions.
SAMPLED_GUEST(guest_mov_to_dr7, "mov $0x400, %esi", "", "mov %rsi, %dr7")
const Declare mov_to_dr7{{.name = "exit.mov_to_dr7",
                          .claims_about = "mov_to_dr7",
                          .guest = guest_mov_to_dr7,
                          .reason = Reason::dr_write,
                          .intercepts = on(Intercept::dr_write),
                          .length = mov_cr_length,
                          .native = true}};

} // namespace

} // namespace refhv::bench
