// SPDX-License-Identifier: MIT
// SVM instructions (APM 3).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::svm {

inline void clgi() {
    asm volatile("clgi" ::: "memory");
}
inline void stgi() {
    asm volatile("stgi" ::: "memory");
}
inline void vmsave(u64 vmcb) {
    asm volatile("vmsave %0" ::"a"(vmcb) : "memory");
}
inline void vmload(u64 vmcb) {
    asm volatile("vmload %0" ::"a"(vmcb) : "memory");
}

inline void invlpga(u64 address, u32 asid) {
    asm volatile("invlpga %0, %1" ::"a"(address), "c"(asid) : "memory");
}

} // namespace refhv::svm
