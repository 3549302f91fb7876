// SPDX-License-Identifier: MIT
// When a guest of VMX takes the interrupts that the core has for it (SDM 3C 27.3.1.5, 27.7.5).
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::vmx {

namespace {
constexpr u64 by_sti = 1, by_mov_ss = 2, by_smi = 4, by_nmi = 8; // SDM 3C table 25-3
} // namespace

// The TPR needs no look: the guest's CR8 is the CPU's, so what it masks has not come.
bool Vcpu::takes_interrupt(u8) const {
    return (read(Field::entry_interruption_info) & Event::valid) == 0 &&
           (read(Field::guest_rflags) & x86::rflags_bits::interrupt) != 0 &&
           (read(Field::guest_interruptibility) & (by_sti | by_mov_ss)) == 0;
}

bool Vcpu::takes_nmi() const {
    return (read(Field::entry_interruption_info) & Event::valid) == 0 &&
           (read(Field::guest_interruptibility) & (by_sti | by_mov_ss | by_smi | by_nmi)) == 0;
}

bool Vcpu::deliver_nmi() {
    return deliver(nmi_event);
}

void Vcpu::await_interrupt_window(bool wanted) {
    const u64 controls = read(Field::proc_based_controls) & ~u64{proc::interrupt_window};
    write(Field::proc_based_controls, controls | (wanted ? proc::interrupt_window : 0));
}

// NMIs that are the guest's block NMIs in the guest, not on the CPU (SDM 3C 25.6.1, virtual NMIs). Where the
// CPU has no such thing the NMI that ended guest mode blocks them until the guest's own IRET.
void Vcpu::virtualize_nmis(bool wanted) {
    const u64 controls = read(Field::pin_based_controls);
    own_nmis_ =
        wanted && cpu_.capabilities().pin.offers(pin::virtual_nmis) && (controls & pin::virtual_nmis) == 0;
    if (own_nmis_) {
        write(Field::pin_based_controls, controls | pin::virtual_nmis);
    }
}

// NMI-window exiting without virtual NMIs would be refused (SDM 3C 27.2.1.1).
bool Vcpu::has_nmi_window() const {
    return (read(Field::pin_based_controls) & pin::virtual_nmis) != 0;
}

void Vcpu::await_nmi_window(bool wanted) {
    if (has_nmi_window()) {
        const u64 controls = read(Field::proc_based_controls) & ~u64{proc::nmi_window};
        write(Field::proc_based_controls, controls | (wanted ? proc::nmi_window : 0));
    }
}

} // namespace refhv::vmx
