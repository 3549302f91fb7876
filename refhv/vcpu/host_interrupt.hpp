// SPDX-License-Identifier: MIT
// An interrupt that this CPU has acknowledged without delivering it, handed to the host's own handler.
#pragma once

#include "refhv/x86/intrinsics.hpp"

namespace refhv::x86 {

// With interrupts off: calls the handler that the IDT has for the vector as the CPU would have, with a frame
// that its IRETQ takes away again (SDM 3A 6.14). For gates without an IST.
inline void deliver_to_host(u8 vector) {
    const auto* gate = reinterpret_cast<const u64*>(sidt().base + u64{16} * vector);
    const u64 handler = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff'0000) | gate[1] << 32;
    asm volatile("mov %%rsp, %%rbx\n\t"
                 "and $-16, %%rsp\n\t"
                 "mov %%ss, %%eax\n\tpush %%rax\n\tpush %%rbx\n\tpushfq\n\t"
                 "mov %%cs, %%eax\n\tpush %%rax\n\t"
                 "call *%0"
                 :
                 : "r"(handler)
                 : "rax", "rbx", "cc", "memory");
}

} // namespace refhv::x86
