// SPDX-License-Identifier: MIT
// The Extras of a run on SVM.
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::svm {

#define REFHV_DECLARE(name)                                                                                  \
    extern "C" void svm_enter_##name(Context* context);                                                      \
    extern "C" void svm_enter_##name##_stamped(Context* context);
REFHV_SVM_EXTRAS(REFHV_DECLARE)
#undef REFHV_DECLARE

namespace {

using abi::Extra;

#define REFHV_ENTRY(name) {Extra::name, {svm_enter_##name, svm_enter_##name##_stamped}},
constexpr x86::ExtraSwitch<WorldSwitch> extra_switches[] = {REFHV_SVM_EXTRAS(REFHV_ENTRY)};
#undef REFHV_ENTRY

constexpr u32 device_not_available = x86::vector_bit(x86::vector::device_not_available);
constexpr u64 of_vmx = abi::extra_bit(Extra::msr_exit_store) | abi::extra_bit(Extra::msr_exit_load) |
                       abi::extra_bit(Extra::msr_entry_load) | abi::extra_bit(Extra::vmread) |
                       abi::extra_bit(Extra::vmwrite) | abi::extra_bit(Extra::vmcs_switch) |
                       abi::extra_bit(Extra::vmcs_clear);

} // namespace

WorldSwitch extra_switch(Extra extra, bool stamped) {
    const WorldSwitch* const found = x86::find_switch(extra_switches, extra, stamped);
    return found != nullptr ? *found : nullptr;
}

Status Vcpu::equip(Arena& arena, u64 extras, u32 count) {
    if (mmu_ != nullptr) {
        return refuse(abi::Outcome::unsupported, "extras are for mode nested");
    }
    if ((extras & of_vmx) != 0) {
        return refuse(abi::Outcome::unsupported, "an extra of VMX; this is SVM");
    }
    constexpr u64 clean = abi::extra_bit(Extra::vmcb_clean_none) | abi::extra_bit(Extra::vmcb_clean_all);
    if ((extras & clean) != 0 && !cpu_.capabilities().vmcb_clean()) {
        return refuse(abi::Outcome::unsupported, "no VMCB clean bits: CPUID.8000000AH:EDX[5]");
    }
    if ((extras & abi::extra_bit(Extra::xsave_lazy)) != 0 && (vmcb_->cr0 & x86::cr0::ts) != 0) {
        return refuse(abi::Outcome::bad_request, "extras: xsave_lazy where the guest's own CR0.TS is set");
    }
    const Status status = extras_.prepare(arena, extras, count, registers_.run_xcr0());
    if (status.ok()) {
        context_->work = extras_.work();
        extras_.work()->own = vmcb_physical_;
    }
    return status;
}

void Vcpu::begin_extras() {
    extras_.adopt_components();
    extras_.work()->other = cpu_.host_vmcb(on_cpu_);
    if (extras_.has(Extra::xsave_lazy)) {
        vmcb_->cr0 |= x86::cr0::ts;
        vmcb_->intercept_exceptions |= device_not_available;
    }
}

void Vcpu::end_extras() {
    if (extras_.has(Extra::xsave_lazy)) {
        vmcb_->cr0 &= ~x86::cr0::ts;
        vmcb_->intercept_exceptions = exceptions_;
        vmcb_->clean_bits = 0;
    }
    extras_.end();
}

void Vcpu::switch_with_extras(u64* counts) {
    vmcb_->clean_bits = 0; // C++ may have changed anything
    extras_.before_switch();
    switch_(context_);
    if (extras_.has(Extra::vmload_vmsave)) {
        vmload(vmcb_physical_);
    }
    extras_.after_switch(counts);
}

} // namespace refhv::svm
