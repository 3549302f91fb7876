// SPDX-License-Identifier: MIT
// What refhv/vmx/enter.S and enter_extras.S define, for the machine: one entry each, and back to C++ at every
// exit.
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {
u32 enter(const char* name, Context* context) {
    silicon::vmx().entered_by = name;
    return silicon::vmx().enter(context->gpr, context->launched != 0);
}
} // namespace

#define REFHV_SWITCH(name)                                                                                   \
    extern "C" u32 name(Context* context);                                                                   \
    extern "C" u32 name(Context* context) {                                                                  \
        return enter(#name, context);                                                                        \
    }                                                                                                        \
    extern "C" const char name##_exit[];                                                                     \
    const char name##_exit[] = "";
#define REFHV_EXTRA(name) REFHV_SWITCH(vmx_enter_##name) REFHV_SWITCH(vmx_enter_##name##_stamped)
REFHV_SWITCH(vmx_enter)
REFHV_SWITCH(vmx_enter_stamped)
REFHV_SWITCH(vmx_enter_filtered)
REFHV_SWITCH(vmx_enter_stamped_filtered)
REFHV_VMX_EXTRAS(REFHV_EXTRA)

} // namespace refhv::vmx
