// SPDX-License-Identifier: MIT
// The FS base, read and written without the C library, whose errno and stack canary live behind it.
#pragma once

#include "refhv/contract/types.hpp"

#include <asm/prctl.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

namespace refhv::client::self {

// The kernel lets processes use RDFSBASE and WRFSBASE (Documentation/x86/x86_64/fsgs.rst: AT_HWCAP2 bit 1).
inline const bool has_fsgsbase = (getauxval(AT_HWCAP2) & 2) != 0;

inline void arch_prctl(long operation, u64 argument) {
    long result = SYS_arch_prctl;
    asm volatile("syscall" : "+a"(result) : "D"(operation), "S"(argument) : "rcx", "r11", "memory");
}

[[nodiscard]] inline u64 read_fs_base() {
    u64 base = 0;
    if (has_fsgsbase) {
        asm volatile("rdfsbase %0" : "=r"(base));
    } else {
        arch_prctl(ARCH_GET_FS, reinterpret_cast<u64>(&base));
    }
    return base;
}

inline void write_fs_base(u64 base) {
    if (has_fsgsbase) {
        asm volatile("wrfsbase %0" ::"r"(base) : "memory");
    } else {
        arch_prctl(ARCH_SET_FS, base);
    }
}

} // namespace refhv::client::self
