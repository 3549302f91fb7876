// SPDX-License-Identifier: MIT
// Events into a guest on SVM: with VMRUN (APM 2 15.20), at a window, and as virtual interrupts (15.21.4).
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::svm {

namespace {

constexpr u32 valid = 1u << 31;

constexpr abi::Delivery how(u32 event) {
    return static_cast<abi::Delivery>(event >> 12 & 3);
}

} // namespace

bool Vcpu::can_deliver(u32 event) const {
    constexpr u32 interrupt = 0;
    return how(event) == abi::Delivery::with_entry || (event >> 8 & 7) == interrupt;
}

bool Vcpu::deliver(u32 event) {
    using namespace interrupt_control;
    if (how(event) == abi::Delivery::with_entry) [[likely]] {
        vmcb_->event_injection = valid | event;
        return true;
    }
    switch (how(event)) {
    case abi::Delivery::when_open: // whatever its vector, the guest shall not get it but exit
        waiting_ = valid | (event & 0xfff);
        vmcb_->interrupt_control |= v_irq | v_ign_tpr;
        vmcb_->intercept_1 |= intercept_1::vintr;
        break;
    case abi::Delivery::virtually: {
        const u64 vector = event & 0xff;
        vmcb_->interrupt_control = (vmcb_->interrupt_control & ~(v_ign_tpr | v_intr_prio | v_intr_vector)) |
                                   v_irq | vector >> 4 << v_intr_prio_shift | vector << v_intr_vector_shift;
        break;
    }
    default:
        return false;
    }
    vmcb_->clean_bits = 0;
    return true;
}

void Vcpu::forget_waiting() {
    if (waiting_ != 0) {
        vmcb_->interrupt_control &= ~(interrupt_control::v_irq | interrupt_control::v_ign_tpr);
        vmcb_->intercept_1 &= ~intercept_1::vintr;
        vmcb_->clean_bits = 0;
        waiting_ = 0;
    }
}

bool Vcpu::ends_waiting(const abi::Exit& exit) {
    if (exit.reason != static_cast<u16>(abi::Reason::interrupt_window)) {
        return false;
    }
    vmcb_->event_injection = waiting_;
    forget_waiting();
    return true;
}

bool Vcpu::redeliver(const abi::Exit&) {
    constexpr u64 valid = 1u << 31, software_interrupt = 4;
    const u64 event = vmcb_->exit_int_info, vector = event & 0xff;
    // INT n, INT3 and INTO are executed anew: RIP is still theirs.
    const bool by_instruction = (event >> 8 & 7) == software_interrupt || vector == x86::vector::breakpoint ||
                                vector == x86::vector::overflow;
    if ((event & valid) != 0 && !by_instruction) {
        vmcb_->event_injection = event; // the same format (APM 2 15.7.2)
    }
    return true;
}

bool Vcpu::inject(const abi::Exit& exit) {
    if (exit.reason != static_cast<u16>(abi::Reason::exception)) {
        return false;
    }
    constexpr u64 type_exception = 3u << 8, error_valid = 1u << 11, valid = 1u << 31; // APM 2 15.20
    constexpr u32 vmm_communication = 29, security = 30;
    const bool has_error =
        x86::has_error_code(exit.vector) || exit.vector == vmm_communication || exit.vector == security;
    vmcb_->event_injection = exit.vector | type_exception | valid | (has_error ? error_valid : 0) |
                             (has_error ? vmcb_->exit_info_1 << 32 : 0);
    if (exit.vector == x86::vector::page_fault) {
        vmcb_->cr2 = vmcb_->exit_info_2;
    }
    return true;
}

} // namespace refhv::svm
