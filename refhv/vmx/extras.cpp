// SPDX-License-Identifier: MIT
// The Extras of a run on VMX.
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::vmx {

#define REFHV_DECLARE(name)                                                                                  \
    extern "C" u32 vmx_enter_##name(Context* context);                                                       \
    extern "C" const char vmx_enter_##name##_exit[];                                                         \
    extern "C" u32 vmx_enter_##name##_stamped(Context* context);                                             \
    extern "C" const char vmx_enter_##name##_stamped_exit[];
REFHV_VMX_EXTRAS(REFHV_DECLARE)
#undef REFHV_DECLARE

namespace {

using abi::Extra;

#define REFHV_ENTRY(name)                                                                                    \
    {Extra::name,                                                                                            \
     {{vmx_enter_##name, vmx_enter_##name##_exit},                                                           \
      {vmx_enter_##name##_stamped, vmx_enter_##name##_stamped_exit}}},
constexpr x86::ExtraSwitch<WorldSwitch> extra_switches[] = {REFHV_VMX_EXTRAS(REFHV_ENTRY)};
#undef REFHV_ENTRY

constexpr u32 device_not_available = x86::vector_bit(x86::vector::device_not_available);
constexpr u64 of_svm = abi::extra_bit(Extra::vmcb_clean_none) | abi::extra_bit(Extra::vmcb_clean_all) |
                       abi::extra_bit(Extra::vmsave) | abi::extra_bit(Extra::vmload_vmsave);

} // namespace

const WorldSwitch* extra_switch(Extra extra, bool stamped) {
    return x86::find_switch(extra_switches, extra, stamped);
}

Status Vcpu::equip(Arena& arena, u64 extras, u32 count) {
    if (mmu_ != nullptr) {
        return refuse(abi::Outcome::unsupported, "extras are for mode nested");
    }
    if ((extras & of_svm) != 0) {
        return refuse(abi::Outcome::unsupported, "an extra of SVM; this is VMX");
    }
    make_current();
    if ((extras & abi::extra_bit(Extra::xsave_lazy)) != 0 && (read(Field::cr0_shadow) & x86::cr0::ts) != 0) {
        return refuse(abi::Outcome::bad_request, "extras: xsave_lazy where the guest's own CR0.TS is set");
    }
    // IA32_VMX_MISC[27:25] = N: lists of at most 512 (N + 1) MSRs (SDM 3D A.6), so never fewer than we take.
    const bool fresh = extras_.work() == nullptr;
    const Status status = extras_.prepare(arena, extras, count, registers_.run_xcr0());
    if (!status.ok() || !fresh) {
        return status;
    }
    x86::ExtraWork& work = *extras_.work();
    context_->work = &work;
    work.own = vmcs_;
    work.other = extras_.spare_page();
    *static_cast<u32*>(platform::to_virtual(work.other)) = cpu_.capabilities().revision();
    if (vmclear(work.other) != Result::succeed) {
        return refuse(abi::Outcome::unsupported, "VMCLEAR failed on a fresh VMCS");
    }
    return {};
}

void Vcpu::begin_extras() {
    extras_.adopt_components();
    if (extras_.has(Extra::xsave_lazy)) { // CR0.TS is the host's, the guest reads the shadow
        write(Field::guest_cr0, read(Field::guest_cr0) | x86::cr0::ts);
        write(Field::cr0_mask, read(Field::cr0_mask) | x86::cr0::ts);
        write(Field::exception_bitmap, exceptions_ | device_not_available);
    }
    const auto area = [&](Extra extra, Field address, Field count, u64 where) {
        if (extras_.has(extra)) {
            write(address, where);
            write(count, extras_.work()->count);
        }
    };
    area(Extra::msr_exit_store, Field::exit_msr_store_address, Field::exit_msr_store_count,
         extras_.guest_msrs());
    area(Extra::msr_exit_load, Field::exit_msr_load_address, Field::exit_msr_load_count, extras_.host_msrs());
    area(Extra::msr_entry_load, Field::entry_msr_load_address, Field::entry_msr_load_count,
         extras_.guest_msrs());
}

void Vcpu::end_extras() {
    if (extras_.has(Extra::xsave_lazy)) {
        write(Field::guest_cr0, read(Field::guest_cr0) & ~x86::cr0::ts);
        write(Field::cr0_mask, wanted_cr0_mask());
        write(Field::exception_bitmap, exceptions_);
    }
    const auto forget = [&](Extra extra, Field count) {
        if (extras_.has(extra)) {
            write(count, 0);
        }
    };
    forget(Extra::msr_exit_store, Field::exit_msr_store_count);
    forget(Extra::msr_exit_load, Field::exit_msr_load_count);
    forget(Extra::msr_entry_load, Field::entry_msr_load_count);
    if (extras_.has(Extra::vmcs_switch)) { // active on this CPU, and the next run may be on another
        (void)vmclear(extras_.spare_page());
    }
    extras_.end();
}

} // namespace refhv::vmx
