// SPDX-License-Identifier: MIT
// SVM instructions (APM 3).
#pragma once

#include "refhv/types.hpp"

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

} // namespace refhv::svm
