// SPDX-License-Identifier: MIT
// MOV to and from control and debug registers. The general register is always RSI, number 6.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::GuestState;
using abi::Intercept;
using abi::Reason;
using client::on;

namespace {

// SDM 3C table 28-3: register number in 3:0, access type in 5:4, general register in 11:8.
constexpr Masked mov_to_cr(u64 number) {
    return {number | 6u << 8};
}
constexpr Masked mov_from_cr(u64 number) {
    return {number | 1u << 4 | 6u << 8};
}
// SDM 3C table 28-4: register number in 2:0, direction in 4, general register in 11:8.
constexpr Masked mov_to_dr(u64 number) {
    return {number | 6u << 8};
}
constexpr Masked mov_from_dr(u64 number) {
    return {number | 1u << 4 | 6u << 8};
}
// APM 2 15.8.1: general register in 3:0; bit 63: MOV CRx.
constexpr Masked assisted_cr{u64{1} << 63 | 6, u64{1} << 63 | 0xf};
constexpr Masked assisted_dr{6, 0xf};

constexpr u64 cr0_ts = 1u << 3;
constexpr u64 cr4_pce = 1u << 8;

constexpr u64 vmx_cr_access = 28;
constexpr u64 vmx_dr_access = 29;
constexpr const char* vmx_section = "SDM 3C 26.1.3";
constexpr const char* svm_section = "APM 2 15.9, 15.8.1";

constexpr VendorExit vmx_cr(Masked qualification) {
    return {.raw = vmx_cr_access, .section = vmx_section, .qualification = qualification};
}
constexpr VendorExit vmx_dr(Masked qualification) {
    return {.raw = vmx_dr_access, .section = vmx_section, .qualification = qualification};
}
constexpr VendorExit svm_cr(u64 exitcode) {
    return {
        .raw = exitcode, .section = svm_section, .qualification = assisted_cr, .needs_decode_assists = true};
}
constexpr VendorExit svm_dr(u64 exitcode) {
    return {
        .raw = exitcode, .section = svm_section, .qualification = assisted_dr, .needs_decode_assists = true};
}

// VMX has no exit for reads of CR0 and CR4: the guest gets the read shadow (SDM 3C 26.3, "MOV from CR0").
GUEST(guest_mov_from_cr0, "mov %cr0, %rsi")
EXIT_CLAIMS(mov_from_cr0, .code = guest_mov_from_cr0, .reason = Reason::cr0_read,
            .intercepts = on(Intercept::cr0_read), .svm = svm_cr(0x00))

// VMX exits only where a host-owned bit differs from the read shadow, so the value written differs in TS.
GUEST(guest_mov_to_cr0, "mov %rsi, %cr0")
EXIT_CLAIMS(
    mov_to_cr0, .code = guest_mov_to_cr0, .reason = Reason::cr0_write, .intercepts = on(Intercept::cr0_write),
    .vmx = vmx_cr(mov_to_cr(0)), .svm = svm_cr(0x10),
    .prepare = [](GuestState& s) { s.gpr[abi::rsi] = s.cr0 ^ cr0_ts; })

GUEST(guest_mov_from_cr3, "mov %cr3, %rsi")
EXIT_CLAIMS(mov_from_cr3, .code = guest_mov_from_cr3, .reason = Reason::cr3_read,
            .intercepts = on(Intercept::cr3_read), .vmx = vmx_cr(mov_from_cr(3)), .svm = svm_cr(0x03))

GUEST(guest_mov_to_cr3, "mov %rsi, %cr3")
EXIT_CLAIMS(
    mov_to_cr3, .code = guest_mov_to_cr3, .reason = Reason::cr3_write, .intercepts = on(Intercept::cr3_write),
    .vmx = vmx_cr(mov_to_cr(3)), .svm = svm_cr(0x13),
    .prepare = [](GuestState& s) { s.gpr[abi::rsi] = s.cr3; })

GUEST(guest_mov_from_cr4, "mov %cr4, %rsi")
EXIT_CLAIMS(mov_from_cr4, .code = guest_mov_from_cr4, .reason = Reason::cr4_read,
            .intercepts = on(Intercept::cr4_read), .svm = svm_cr(0x04))

GUEST(guest_mov_to_cr4, "mov %rsi, %cr4")
EXIT_CLAIMS(
    mov_to_cr4, .code = guest_mov_to_cr4, .reason = Reason::cr4_write, .intercepts = on(Intercept::cr4_write),
    .vmx = vmx_cr(mov_to_cr(4)), .svm = svm_cr(0x14),
    .prepare = [](GuestState& s) { s.gpr[abi::rsi] = s.cr4 ^ cr4_pce; })

GUEST(guest_mov_from_cr8, "mov %cr8, %rsi")
EXIT_CLAIMS(mov_from_cr8, .code = guest_mov_from_cr8, .reason = Reason::cr8_read,
            .intercepts = on(Intercept::cr8_read), .vmx = vmx_cr(mov_from_cr(8)), .svm = svm_cr(0x08))

GUEST(guest_mov_to_cr8, "mov %rsi, %cr8")
EXIT_CLAIMS(
    mov_to_cr8, .code = guest_mov_to_cr8, .reason = Reason::cr8_write, .intercepts = on(Intercept::cr8_write),
    .vmx = vmx_cr(mov_to_cr(8)), .svm = svm_cr(0x18), .prepare = [](GuestState& s) { s.gpr[abi::rsi] = 0; })

GUEST(guest_mov_from_dr7, "mov %dr7, %rsi")
EXIT_CLAIMS(mov_from_dr7, .code = guest_mov_from_dr7, .reason = Reason::dr_read,
            .intercepts = on(Intercept::dr_read), .vmx = vmx_dr(mov_from_dr(7)), .svm = svm_dr(0x27))

GUEST(guest_mov_to_dr7, "mov %rsi, %dr7")
EXIT_CLAIMS(
    mov_to_dr7, .code = guest_mov_to_dr7, .reason = Reason::dr_write, .intercepts = on(Intercept::dr_write),
    .vmx = vmx_dr(mov_to_dr(7)), .svm = svm_dr(0x37),
    .prepare = [](GuestState& s) { s.gpr[abi::rsi] = s.dr7; })

} // namespace

} // namespace refhv::front
