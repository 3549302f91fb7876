// SPDX-License-Identifier: MIT
#include "microbench/rows/inject_guest.hpp"

namespace refhv::bench {

namespace layout = client::layout;

namespace {
GUEST(go_on, "jmp *%r15")
GUEST(return_at_once, "incq (%rsp)\n iretq")
GUEST(return_over_error_code, "add $8, %rsp\n incq (%rsp)\n iretq")
} // namespace

constinit const client::GuestCode handler_goes_on = go_on, handler_returns = return_at_once,
                                  handler_returns_over_error_code = return_over_error_code;

void take_at_handler(client::Guest& guest, u32 vector, client::GuestCode handler) {
    guest.gate(vector, layout::handler);
    guest.write(layout::handler, handler.bytes());
}

Row delivering_row(const char* name, u32 event, const client::SampledGuest& code, client::GuestCode handler,
                   std::vector<std::string> claims) {
    Row row{.name = name,
            .claims_about = "cpuid",
            .guest = code,
            .reason = abi::Reason::cpuid,
            .intercepts = client::on(abi::Intercept::cpuid),
            .event = event,
            .action = abi::Action::deliver,
            .length = 2};
    row.build = [event, handler](abi::Mode, client::Guest& guest) {
        take_at_handler(guest, event & 0xff, handler);
    };
    row.rests_on = std::move(claims);
    return row;
}

} // namespace refhv::bench
