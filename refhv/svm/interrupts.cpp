// SPDX-License-Identifier: MIT
// When a guest of SVM takes the interrupts that the core has for it (APM 2 15.20, 15.21).
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::svm {

namespace {
constexpr u64 valid = 1u << 31;
constexpr u64 v_tpr = 0xf, v_irq = 1u << 8, highest_priority = 0xfu << 16, v_ignore_tpr = 1u << 20;
constexpr u64 window = v_irq | highest_priority | v_ignore_tpr, window_fields = window | u64{0xff} << 32;
} // namespace

// An event that is injected asks nobody, so the guest's TPR is asked here.
bool Vcpu::takes_interrupt(u8 vector) const {
    return (vmcb_->event_injection & valid) == 0 && (vmcb_->rflags & x86::rflags_bits::interrupt) != 0 &&
           (vmcb_->interrupt_shadow & 1) == 0 && vector / 16u > (vmcb_->interrupt_control & v_tpr);
}

bool Vcpu::takes_nmi() const {
    return (vmcb_->event_injection & valid) == 0 && (vmcb_->interrupt_shadow & 1) == 0;
}

// A virtual interrupt that is intercepted: #VMEXIT(VINTR) in its place. What the client has there waits.
void Vcpu::await_interrupt_window(bool wanted) {
    u64& control = vmcb_->interrupt_control;
    if (wanted) {
        clients_virtual_interrupt_ = control & window_fields;
        clients_vintr_ = vmcb_->intercept_1 & intercept_1::vintr;
    }
    control = (control & ~window_fields) | (wanted ? window : clients_virtual_interrupt_);
    vmcb_->intercept_1 =
        (vmcb_->intercept_1 & ~intercept_1::vintr) | (wanted ? intercept_1::vintr : clients_vintr_);
    vmcb_->clean_bits = 0;
}

} // namespace refhv::svm
