// SPDX-License-Identifier: MIT
// What a signal says of the instruction that raised it, in the neutral terms of abi.hpp. Pure.
#pragma once

#include "refhv/contract/abi.hpp"

#include <span>

namespace refhv::client::self {

// As the kernel reports an exception to a signal handler (mcontext: trapno, err, cr2, rip).
struct Trap {
    int signal;
    u64 vector;
    u64 error;
    u64 address;                // CR2
    u64 rip;                    // behind the instruction for #BP, at it for faults
    std::span<const u8> code;   // what stands at rip, as far as it can be read
    std::span<const u8> before; // up to 2 bytes that stand before rip
};

struct TrapExit {
    abi::Exit exit;
    u64 rip; // of the instruction that raised it
};

// #GP of a privileged instruction becomes that instruction's reason (hlt, io_in, rdmsr, …). Everything else
// is Reason::exception with its vector. raw_reason is the signal, qualification the vector,
// interruption_error the error code, guest_linear CR2 of a #PF; instruction_length and next_rip are 0 where
// the instruction was not decoded.
[[nodiscard]] TrapExit describe(const Trap& trap);

struct Decoded {
    abi::Reason reason = abi::Reason::none; // none: not a privileged instruction that is known here
    u32 length = 0;
};

// One instruction in 64-bit mode that raises #GP at CPL 3 (SDM 2 and APM 3, the instructions' exception
// tables).
[[nodiscard]] Decoded decode_privileged(std::span<const u8> code);

} // namespace refhv::client::self
