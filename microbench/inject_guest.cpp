// SPDX-License-Identifier: MIT
#include "microbench/inject_guest.hpp"

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
    const u64 gate[2] = {(layout::handler & 0xffff) | u64{layout::code64} << 16 | u64{0x8e00} << 32 |
                             (layout::handler >> 16 & 0xffff) << 48,
                         layout::handler >> 32};
    guest.write(layout::idt + 16 * vector, {reinterpret_cast<const u8*>(gate), sizeof gate});
    guest.write(layout::handler, handler.bytes());
}

} // namespace refhv::bench
