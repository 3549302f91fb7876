// SPDX-License-Identifier: MIT
// What the rows of family inject share: sample loops that end in the guest's handler, and such handlers.
#pragma once

#include "microbench/measure/row.hpp"
#include "refhv/client/guest/guest.hpp"

// A sample loop whose operation never gets to its end: the handler jumps to label 6, before the end stamp.
// What the operation ends with should end the guest, so that an event that does not come makes the row
// INVALID. The frame that the event has left is dropped with REFHV_DROP_FRAME, in the setup of the next
// round.
#define TO_HANDLER(name, setup, operation)                                                                   \
    GUEST(name##_operation, REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", setup, operation "\n 6:"))               \
    GUEST(name##_control, REFHV_SAMPLE_LOOP("lea 6f(%rip), %r15", setup, "6:"))                              \
    constexpr client::SampledGuest name{name##_operation, name##_control};
#define REFHV_DROP_FRAME "mov $" REFHV_ASM(REFHV_STACK_TOP) ", %esp\n"

namespace refhv::bench {

// Handlers of one instruction, to label 6; and back over an INT3.
extern const client::GuestCode handler_goes_on, handler_returns, handler_returns_over_error_code;

// An interrupt gate for the vector, to the handler, which is put at layout::handler.
void take_at_handler(client::Guest& guest, u32 vector, client::GuestCode handler);

// A row whose CPUID exits, whereupon the core steps over it and delivers the event, which the handler takes.
[[nodiscard]] Row delivering_row(const char* name, u32 event, const client::SampledGuest& code,
                                 client::GuestCode handler, std::vector<std::string> claims);

} // namespace refhv::bench
