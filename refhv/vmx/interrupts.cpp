// SPDX-License-Identifier: MIT
// When a guest of VMX takes the interrupts that the core has for it (SDM 3C 27.3.1.5, 27.7.5).
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::vmx {

namespace {
constexpr u64 by_sti = 1, by_mov_ss = 2, by_smi = 4, by_nmi = 8; // SDM 3C table 25-3
} // namespace

// Where the guest's TPR alone is in the way, its falling below the vector's class is waited for.
bool Vcpu::takes_interrupt(u8 vector) {
    const bool open = (read(Field::entry_interruption_info) & Event::valid) == 0 &&
                      (read(Field::guest_rflags) & x86::rflags_bits::interrupt) != 0 &&
                      (read(Field::guest_interruptibility) & (by_sti | by_mov_ss)) == 0;
    const u64 priority = vector >> 4;
    const bool masked = priority <= guest_cr8();
    await_tpr(open && masked ? priority : 0);
    return open && !masked;
}

// Interrupt-window exiting looks at RFLAGS.IF alone (SDM 3C 26.2), so it is off meanwhile.
void Vcpu::await_tpr(u64 threshold) {
    if (threshold != awaited_tpr_) {
        awaited_tpr_ = threshold;
        if (own_tpr() != nullptr) { // else MOV to CR8 exits, and all that waits is offered again
            write(Field::tpr_threshold, threshold);
        }
        write_interrupt_window();
    }
}

void Vcpu::write_interrupt_window() {
    const u64 controls = read(Field::proc_based_controls) & ~u64{proc::interrupt_window};
    const bool on = window_awaited_ && awaited_tpr_ == 0;
    write(Field::proc_based_controls, controls | (on ? proc::interrupt_window : 0));
}

bool Vcpu::takes_nmi() const {
    return (read(Field::entry_interruption_info) & Event::valid) == 0 &&
           (read(Field::guest_interruptibility) & (by_sti | by_mov_ss | by_smi | by_nmi)) == 0;
}

bool Vcpu::deliver_nmi() {
    return deliver(nmi_event);
}

void Vcpu::await_interrupt_window(bool wanted) {
    window_awaited_ = wanted;
    write_interrupt_window();
}

// NMIs that are the guest's block NMIs in the guest, not on the CPU (SDM 3C 25.6.1, virtual NMIs). Where the
// CPU has no such thing the NMI that ended guest mode blocks them until the guest's own IRET. The host wants
// it for every guest: one that is injected otherwise would block the CPU's, in the guest for as long as that
// runs (27.7.1) and behind its exits, which leave such blocking as it is (28.5.5).
void Vcpu::virtualize_nmis(bool wanted) {
    const u64 controls = read(Field::pin_based_controls);
    own_nmis_ =
        wanted && cpu_.capabilities().pin.offers(pin::virtual_nmis) && (controls & pin::virtual_nmis) == 0;
    if (own_nmis_) {
        write(Field::pin_based_controls, controls | pin::virtual_nmis);
        write(Field::guest_interruptibility,
              read(Field::guest_interruptibility) | (virtual_blocking_ ? by_nmi : 0));
    }
}

// Without the control the same bit blocks NMIs of the CPU (SDM 3C 27.6.1), so the guest's blocking is kept
// here.
void Vcpu::end_virtual_nmis() {
    if (own_nmis_) {
        if (iret_unblocked_) {
            block_nmis_again();
        }
        const u64 blocking = read(Field::guest_interruptibility);
        virtual_blocking_ = (blocking & by_nmi) != 0;
        write(Field::guest_interruptibility, blocking & ~by_nmi);
        write(Field::pin_based_controls, read(Field::pin_based_controls) & ~u64{pin::virtual_nmis});
        own_nmis_ = false;
    }
}

// NMI-window exiting without virtual NMIs would be refused (SDM 3C 27.2.1.1).
bool Vcpu::has_nmi_window() const {
    return (read(Field::pin_based_controls) & pin::virtual_nmis) != 0;
}

// An IRET that faulted, or whose fetch or pop met an exit, has unblocked NMIs although it is still to come
// (SDM 3C 28.2.3, 28.2.1: bit 12 of the interruption information or of the qualification). Undefined with an
// event in delivery, with a #DF, and where NMI exiting is 1 and virtual NMIs 0.
// The next entry puts it back, unless a fault is the guest's: its IRET ends the blocking even so (26.3).
void Vcpu::keep_nmis_blocked(const abi::Exit& exit) {
    constexpr u64 unblocked = 1u << 12;
    const u32 basic = exit.raw_reason & 0xffff;
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    const u64 told = exception ? exit.interruption_info
                     : basic == static_cast<u32>(BasicExit::ept_violation) ||
                             basic == static_cast<u32>(BasicExit::pml_full)
                         ? exit.qualification
                         : 0;
    if ((told & unblocked) != 0 && !(exception && exit.vector == x86::vector::double_fault) &&
        (read(Field::vectoring_info) & Event::valid) == 0 && has_nmi_window()) {
        iret_unblocked_ = true;
    }
}

// That IRET is about to run again.
void Vcpu::block_nmis_again() {
    iret_unblocked_ = false;
    write(Field::guest_interruptibility, read(Field::guest_interruptibility) | by_nmi);
}

void Vcpu::await_nmi_window(bool wanted) {
    if (has_nmi_window()) {
        const u64 controls = read(Field::proc_based_controls) & ~u64{proc::nmi_window};
        write(Field::proc_based_controls, controls | (wanted ? proc::nmi_window : 0));
    }
}

} // namespace refhv::vmx
