// SPDX-License-Identifier: MIT
// What refhv/svm/enter.S and enter_extras.S define, for the machine: VMRUN, again as long as an exit's code
// has budget, and back to C++.
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

namespace {
void enter(Context* context) {
    Vmcb& v = *context->vmcb;
    for (;;) {
        silicon::svm().vmrun(context->vmcb_physical, context->gpr);
        const u64 code = v.exit_code;
        if (code >= SVM_EXIT_CODES || (v.exit_info_1 & context->mask[code]) != context->match[code] ||
            --context->budget[code] < 0) {
            return;
        }
        v.rip += context->length[code];
    }
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
