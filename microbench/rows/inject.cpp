// SPDX-License-Identifier: MIT
// Injection: CPUID exits, the core steps over it and has the entry deliver an event. `inject.KIND` ends in
// the guest's handler, whose only instruction jumps to the end stamp: its part `entry` is the entry, the
// delivery and that jump. `inject.KIND_iret` goes there and back: the handler adds one to RIP and returns by
// IRET. What exit.cpuid takes the same way without an event, taken off either, leaves the delivery.
#include "microbench/rows/inject_guest.hpp"

namespace refhv::bench {

namespace {

constexpr u32 interrupt = 0 << 8, nmi = 2 << 8, exception = 3 << 8, error_code = 1 << 11;
constexpr u32 free_vector = 28, invalid_opcode = 6, general_protection = 13;

// IF, which an interrupt's gate has cleared, is set again. Behind CPUID stands INT3.
TO_HANDLER(into_gate, "sti\n" REFHV_DROP_FRAME "xor %eax, %eax", "cpuid\n int3")
TO_HANDLER(into_exception, REFHV_DROP_FRAME "xor %eax, %eax", "cpuid\n int3")

SAMPLED_GUEST(there_and_back, "sti", "xor %eax, %eax", "cpuid\n int3")

Row inject_row(const char* name, u32 event, const client::SampledGuest& code, client::GuestCode handler,
               const char* claim) {
    return delivering_row(name, event, code, handler,
                          {claim, "Inject.event_cut_short_by_a_nested_violation_is_delivered_anew"});
}

constexpr const char* interrupts_arrive = "Inject.external_interrupts_of_any_vector_arrive_and_clear_if";
constexpr const char* exceptions_arrive = "Inject.exceptions_arrive_with_their_error_codes";
constexpr const char* nmis_arrive = "Inject.nmi_arrives_whatever_if_says";

const Declare interrupt_row{
    inject_row("inject.interrupt", interrupt | free_vector, into_gate, handler_goes_on, interrupts_arrive)};
const Declare interrupt_iret{inject_row("inject.interrupt_iret", interrupt | free_vector, there_and_back,
                                        handler_returns, interrupts_arrive)};
// An NMI's handler that does not return leaves NMIs blocked.
const Declare nmi_iret{inject_row("inject.nmi_iret", nmi | 2, there_and_back, handler_returns, nmis_arrive)};
const Declare exception_row{inject_row("inject.exception", exception | invalid_opcode, into_exception,
                                       handler_goes_on, exceptions_arrive)};
const Declare exception_iret{inject_row("inject.exception_iret", exception | invalid_opcode, there_and_back,
                                        handler_returns, exceptions_arrive)};
const Declare exception_error{inject_row("inject.exception_error",
                                         exception | error_code | general_protection, into_exception,
                                         handler_goes_on, exceptions_arrive)};
const Declare exception_error_iret{inject_row("inject.exception_error_iret",
                                              exception | error_code | general_protection, there_and_back,
                                              handler_returns_over_error_code, exceptions_arrive)};

} // namespace

} // namespace refhv::bench
