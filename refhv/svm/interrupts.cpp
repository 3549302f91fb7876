// SPDX-License-Identifier: MIT
// When a guest of SVM takes the interrupts that the core has for it (APM 2 15.20, 15.21).
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::svm {

namespace {
constexpr u64 v_tpr = 0xf, v_irq = 1u << 8, highest_priority = 0xfu << 16, v_ignore_tpr = 1u << 20;
constexpr u64 window = v_irq | highest_priority | v_ignore_tpr, window_fields = window | u64{0xff} << 32;
} // namespace

// Injection does not look at the guest's TPR, so it is checked here.
bool Vcpu::takes_interrupt(u8 vector) {
    const bool open = (vmcb_->event_injection & Event::valid) == 0 &&
                      (vmcb_->rflags & x86::rflags_bits::interrupt) != 0 &&
                      (vmcb_->interrupt_shadow & 1) == 0 && vector / 16u > (vmcb_->interrupt_control & v_tpr);
    if (open && nmi_blocked_ && step_.is_on()) { // its frame shall not hold our TF; the IRET comes once more
        end_instruction();
        intercept_iret(true);
    }
    return open;
}

// Injecting an NMI blocks none, so its handler's IRET is intercepted (APM 2 8.2.3, 15.20). At that exit the
// IRET is still to come: an NMI that waits by then has it stepped over.
bool Vcpu::takes_nmi() {
    if ((vmcb_->event_injection & Event::valid) != 0 || (vmcb_->interrupt_shadow & 1) != 0) {
        return false;
    }
    if (at_iret_ && vmcb_->rip != iret_rip_) {
        unblock_nmis();
    } else if (at_iret_) {
        begin_instruction();
    }
    return !nmi_blocked_;
}

// Where the client intercepts IRET, or has the CPU virtualize NMIs, it sees to that itself.
bool Vcpu::deliver_nmi() {
    const bool clients = (vmcb_->intercept_1 & intercept_1::iret) != 0 ||
                         (vmcb_->interrupt_control & interrupt_control::v_nmi_enable) != 0;
    if (!clients) {
        nmi_blocked_ = has_own_exits_ = true;
        intercept_iret(true);
    }
    return deliver(nmi_event);
}

// The handler has come to its IRET, or that has been stepped over. false: the exit is another's.
bool Vcpu::ends_nmi(const abi::Exit& exit) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    if (reason == iret && nmi_blocked_) {
        intercept_iret(false);
        at_iret_ = true;
        iret_rip_ = vmcb_->rip;
        return true;
    }
    return step_.is_on() && reason != external_interrupt && reason != nmi && ends_instruction(exit);
}

void Vcpu::unblock_nmis() {
    if (nmi_blocked_) {
        intercept_iret(false);
        nmi_blocked_ = false;
        has_own_exits_ = mmu_ != nullptr;
    }
}

void Vcpu::intercept_iret(bool on) {
    at_iret_ = false;
    vmcb_->intercept_1 = (vmcb_->intercept_1 & ~intercept_1::iret) | (on ? intercept_1::iret : 0);
    vmcb_->clean_bits = 0;
}

// A virtual interrupt that is intercepted: #VMEXIT(VINTR) in its place. What the client has there waits.
void Vcpu::await_interrupt_window(bool wanted) {
    u64& control = vmcb_->interrupt_control;
    window_awaited_ = wanted;
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
