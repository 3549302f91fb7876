// SPDX-License-Identifier: MIT
// Events into a guest on SVM: with VMRUN (APM 2 15.20), at a window, and as virtual interrupts (15.21.4).
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::svm {

bool Vcpu::can_deliver(Event event) const {
    return event.delivery() == abi::Delivery::with_entry || event.type() == Event::Type::interrupt;
}

bool Vcpu::deliver(Event event, u32 error) {
    using namespace interrupt_control;
    if (event.delivery() != abi::Delivery::virtually) [[likely]] {
        if ((vmcb_->event_injection & Event::valid) != 0) [[unlikely]] {
            return false; // a #DB is due before it, and one VMRUN delivers one event
        }
        vmcb_->event_injection = event.injection() | u64{error} << 32;
        return true;
    }
    const u64 vector = event.vector();
    u64& control = window_awaited_ ? clients_virtual_interrupt_ : vmcb_->interrupt_control;
    control = (control & ~(v_ign_tpr | v_intr_prio | v_intr_vector)) | v_irq |
              vector >> 4 << v_intr_prio_shift | vector << v_intr_vector_shift;
    vmcb_->clean_bits = 0;
    return true;
}

bool Vcpu::redeliver(const abi::Exit&) {
    constexpr u64 exception = 3, software_interrupt = 4;
    const u64 event = vmcb_->exit_int_info, vector = event & 0xff, type = event >> 8 & 7;
    // INT n, INT3 and INTO are executed anew: RIP is still theirs. An external interrupt may have their
    // vectors.
    const bool by_instruction =
        type == software_interrupt ||
        (type == exception && (vector == x86::vector::breakpoint || vector == x86::vector::overflow));
    if ((event & Event::valid) != 0 && !by_instruction) {
        vmcb_->event_injection = event; // the same format (APM 2 15.7.2)
    }
    return true;
}

bool Vcpu::inject(const abi::Exit& exit) {
    if (exit.reason != static_cast<u16>(abi::Reason::exception)) {
        return false;
    }
    switch (x86::second_exception(vmcb_->exit_int_info, exit.vector)) {
    case x86::Second::shutdown:
        return false;
    case x86::Second::double_fault:
        raise(x86::vector::double_fault, 0);
        return true;
    case x86::Second::delivered:
        break;
    }
    constexpr u32 vmm_communication = 29, security = 30;
    const bool has_error =
        x86::has_error_code(exit.vector) || exit.vector == vmm_communication || exit.vector == security;
    vmcb_->event_injection = Event::of(Event::Type::exception, exit.vector).injection();
    if (has_error) {
        vmcb_->event_injection |= Event::error_valid | vmcb_->exit_info_1 << 32;
    }
    if (exit.vector == x86::vector::page_fault) {
        vmcb_->cr2 = vmcb_->exit_info_2;
    }
    return true;
}

} // namespace refhv::svm
