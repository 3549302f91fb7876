// SPDX-License-Identifier: MIT
// Instructions on descriptor-table registers. VMX has one control for all of them, SVM one intercept for
// each.
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::GuestState;
using abi::Intercept;
using abi::Reason;
using client::on;

namespace {

constexpr u64 vmx_gdtr_idtr = 46;
constexpr u64 vmx_ldtr_tr = 47;

// The qualification is the displacement of the memory operand, zero without one: SDM 3C 28.2.1.
constexpr VendorExit vmx(u64 reason) {
    return {.raw = reason, .section = "SDM 3C 26.1.3", .qualification = Masked{0}};
}
constexpr VendorExit svm(u64 exitcode) {
    return {.raw = exitcode, .section = "APM 2 15.9"};
}

void scratch_in_rsi(GuestState& s) {
    s.gpr[abi::rsi] = REFHV_SCRATCH;
}
void gdtr_in_rsi(GuestState& s) {
    s.gpr[abi::rsi] = REFHV_PARAMETER_GDTR;
}
void idtr_in_rsi(GuestState& s) {
    s.gpr[abi::rsi] = REFHV_PARAMETER_IDTR;
}
void zero_in_rcx(GuestState& s) {
    s.gpr[abi::rcx] = 0;
}

GUEST(guest_sgdt, "sgdt (%rsi)")
EXIT_CLAIMS(sgdt, .code = guest_sgdt, .reason = Reason::gdtr_idtr,
            .intercepts = on(Intercept::gdtr_idtr_read), .vmx = vmx(vmx_gdtr_idtr), .svm = svm(0x67),
            .prepare = scratch_in_rsi)

GUEST(guest_sidt, "sidt (%rsi)")
EXIT_CLAIMS(sidt, .code = guest_sidt, .reason = Reason::gdtr_idtr,
            .intercepts = on(Intercept::gdtr_idtr_read), .vmx = vmx(vmx_gdtr_idtr), .svm = svm(0x66),
            .prepare = scratch_in_rsi)

GUEST(guest_lgdt, "lgdt (%rsi)")
EXIT_CLAIMS(lgdt, .code = guest_lgdt, .reason = Reason::gdtr_idtr,
            .intercepts = on(Intercept::gdtr_idtr_write), .vmx = vmx(vmx_gdtr_idtr), .svm = svm(0x6b),
            .prepare = gdtr_in_rsi)

GUEST(guest_lidt, "lidt (%rsi)")
EXIT_CLAIMS(lidt, .code = guest_lidt, .reason = Reason::gdtr_idtr,
            .intercepts = on(Intercept::gdtr_idtr_write), .vmx = vmx(vmx_gdtr_idtr), .svm = svm(0x6a),
            .prepare = idtr_in_rsi)

GUEST(guest_sldt, "sldt %ecx")
EXIT_CLAIMS(sldt, .code = guest_sldt, .reason = Reason::ldtr_tr, .intercepts = on(Intercept::ldtr_tr_read),
            .vmx = vmx(vmx_ldtr_tr), .svm = svm(0x68))

GUEST(guest_str, "str %ecx")
EXIT_CLAIMS(str, .code = guest_str, .reason = Reason::ldtr_tr, .intercepts = on(Intercept::ldtr_tr_read),
            .vmx = vmx(vmx_ldtr_tr), .svm = svm(0x69))

GUEST(guest_lldt, "lldt %cx")
EXIT_CLAIMS(lldt, .code = guest_lldt, .reason = Reason::ldtr_tr, .intercepts = on(Intercept::ldtr_tr_write),
            .vmx = vmx(vmx_ldtr_tr), .svm = svm(0x6c), .prepare = zero_in_rcx)

} // namespace

} // namespace refhv::front
