// SPDX-License-Identifier: MIT
// Events that the monitor brings into a guest, as abi::Run::event has them.
#pragma once

#include "refhv/vcpu/event.hpp"

namespace refhv::monitor::events {

[[nodiscard]] constexpr u32 exception(u32 vector) {
    return Event::of(Event::Type::exception, vector).bits |
           (x86::has_error_code(vector) ? Event::error_valid : 0);
}

inline constexpr u32 nmi = nmi_event.bits, invalid_opcode = exception(6),
                     general_protection = exception(x86::vector::general_protection),
                     page_fault = exception(x86::vector::page_fault);

} // namespace refhv::monitor::events
