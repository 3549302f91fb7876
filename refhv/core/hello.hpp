// SPDX-License-Identifier: MIT
// What the core says about the machine it stands on.
#pragma once

#include "refhv/contract/reply_writer.hpp"

namespace refhv {

// Completes `h` and writes it, all CPUID leaves and the MSRs of interest. false: no room.
[[nodiscard]] bool describe_machine(abi::HelloReply& h, ReplyWriter& reply);

} // namespace refhv
