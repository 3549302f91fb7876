// SPDX-License-Identifier: MIT
// The SVM instructions on the machine in conformance/test/silicon/svm_machine.hpp.
#pragma once

#include "conformance/test/silicon/svm_machine.hpp"

namespace refhv::svm {

inline void clgi() {
    silicon::svm().gif = false;
}
inline void stgi() {
    silicon::svm().gif = true;
}
inline void vmsave(u64 vmcb) {
    silicon::svm().vmsave(vmcb);
}
inline void vmload(u64 vmcb) {
    silicon::svm().vmload(vmcb);
}
inline void invlpga(u64, u32) {}

} // namespace refhv::svm
