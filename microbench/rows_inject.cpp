// SPDX-License-Identifier: MIT
// Injection: CPUID exits, the core steps over it and has the entry deliver an event. `inject.KIND` ends in
// the guest's handler, whose only instruction jumps to the end stamp: its part `entry` is the entry, the
// delivery and that jump. `inject.KIND_iret` goes there and back: the
// handler adds one to RIP and returns by IRET. What exit.cpuid takes the same way
// without an event, taken off either, leaves the delivery.
#include "microbench/row.hpp"
#include "refhv/client/guest.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

constexpr u32 interrupt = 0 << 8, nmi = 2 << 8, exception = 3 << 8, error_code = 1 << 11;
constexpr u32 free_vector = 28, invalid_opcode = 6, general_protection = 13;

// The frame that an event has left is dropped, and IF, which an interrupt's gate has cleared, is set again.
// Label 6 is where the handler goes on; an event that does not come lets the guest run into INT3, which ends
// it and makes the row INVALID.
#define TO_HANDLER(name, setup)                                                                              \
    GUEST(name##_operation,                                                                                  \
          REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", setup "xor %eax, %eax", "cpuid\n int3\n 6:"))              \
    GUEST(name##_control, REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", setup "xor %eax, %eax", "6:"))             \
    constexpr client::SampledGuest name{name##_operation, name##_control};
#define DROP_FRAME "mov $" REFHV_ASM(REFHV_STACK_TOP) ", %esp\n"
TO_HANDLER(into_gate, "sti\n" DROP_FRAME)
TO_HANDLER(into_exception, DROP_FRAME)
GUEST(go_on, "jmp *%r15")

SAMPLED_GUEST(there_and_back, "sti", "xor %eax, %eax", "cpuid\n int3")
GUEST(return_at_once, "incq (%rsp)\n iretq")
GUEST(return_over_error_code, "add $8, %rsp\n incq (%rsp)\n iretq")

void take_at_handler(Guest& guest, u32 vector, client::GuestCode handler) {
    const u64 gate[2] = {(layout::handler & 0xffff) | u64{layout::code64} << 16 | u64{0x8e00} << 32 |
                             (layout::handler >> 16 & 0xffff) << 48,
                         layout::handler >> 32};
    guest.write(layout::idt + 16 * vector, {reinterpret_cast<const u8*>(gate), sizeof gate});
    guest.write(layout::handler, handler.bytes());
}

Row inject_row(const char* name, u32 event, const client::SampledGuest& code, client::GuestCode handler,
               const char* claim) {
    Row row{.name = name,
            .claims_about = "cpuid",
            .guest = code,
            .reason = Reason::cpuid,
            .intercepts = client::on(abi::Intercept::cpuid),
            .event = event,
            .action = abi::Action::deliver,
            .length = 2};
    row.build = [event, handler](Mode, Guest& guest) { take_at_handler(guest, event & 0xff, handler); };
    row.rests_on = {claim, "Inject.event_cut_short_by_a_nested_violation_is_delivered_anew"};
    return row;
}

constexpr const char* interrupts_arrive = "Inject.external_interrupts_of_any_vector_arrive_and_clear_if";
constexpr const char* exceptions_arrive = "Inject.exceptions_arrive_with_their_error_codes";
constexpr const char* nmis_arrive = "Inject.nmi_arrives_whatever_if_says";

const Declare interrupt_row{
    inject_row("inject.interrupt", interrupt | free_vector, into_gate, go_on, interrupts_arrive)};
const Declare interrupt_iret{inject_row("inject.interrupt_iret", interrupt | free_vector, there_and_back,
                                        return_at_once, interrupts_arrive)};
// An NMI's handler that does not return leaves NMIs blocked.
const Declare nmi_iret{inject_row("inject.nmi_iret", nmi | 2, there_and_back, return_at_once, nmis_arrive)};
const Declare exception_row{
    inject_row("inject.exception", exception | invalid_opcode, into_exception, go_on, exceptions_arrive)};
const Declare exception_iret{inject_row("inject.exception_iret", exception | invalid_opcode, there_and_back,
                                        return_at_once, exceptions_arrive)};
const Declare exception_error{inject_row("inject.exception_error",
                                         exception | error_code | general_protection, into_exception, go_on,
                                         exceptions_arrive)};
const Declare exception_error_iret{inject_row("inject.exception_error_iret",
                                              exception | error_code | general_protection, there_and_back,
                                              return_over_error_code, exceptions_arrive)};

} // namespace

} // namespace refhv::bench
