// SPDX-License-Identifier: MIT
// What refhv/svm/enter.S and enter_extras.S define, for the machine: one VMRUN each, and back to C++ at every
// exit.
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

namespace {
void enter(Context* context) {
    silicon::svm().vmrun(context->vmcb_physical, context->gpr);
}
} // namespace

#define REFHV_SWITCH(name)                                                                                   \
    extern "C" void name(Context* context);                                                                  \
    extern "C" void name(Context* context) {                                                                 \
        enter(context);                                                                                      \
    }
#define REFHV_EXTRA(name) REFHV_SWITCH(svm_enter_##name) REFHV_SWITCH(svm_enter_##name##_stamped)
REFHV_SWITCH(svm_enter)
REFHV_SWITCH(svm_enter_stamped)
REFHV_SWITCH(svm_enter_filtered)
REFHV_SWITCH(svm_enter_stamped_filtered)
REFHV_SVM_EXTRAS(REFHV_EXTRA)

} // namespace refhv::svm
