// SPDX-License-Identifier: MIT
// The pieces of guest code that every guest has: how it stops, and what it does with an exception.
#pragma once

#include "refhv/client/guest/guest.hpp"

namespace refhv::client {

// How a guest says that it is done. The builder takes `hlt`, except where HLT itself is the subject.
enum class Stop : u8 {
    hlt,  // nested: HLT, intercepted, policy stop
    port, // nested: OUT to layout::stop_port, intercepted, policy stop
};

// For layout::stop. Mode native ends by INT 0x20, mode user by INT3, whatever `stop` says.
[[nodiscard]] GuestCode stop_stub(abi::Mode mode, Stop stop);

// For layout::vectors: 32 entry points, 16 bytes apart, that write the ExceptionRecord and then either go on
// behind the instruction at fault (Parameters::advance) or stop the guest.
[[nodiscard]] GuestCode vector_stubs();

} // namespace refhv::client
