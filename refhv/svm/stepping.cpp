// SPDX-License-Identifier: MIT
// One instruction of a guest of SVM by itself, by RFLAGS.TF: for what the shadow MMU grants it alone
// (translate.cpp), and for the IRET of an NMI's handler (interrupts.cpp).
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::svm {

namespace {
constexpr u64 single_step = 1u << 14; // DR6.BS
} // namespace

// The guest's next instruction is followed by a #DB, and no exception is delivered before it has come back
// here: RFLAGS.TF is seen by nothing but a PUSHF that itself writes against the rights of a page.
void Vcpu::begin_instruction() {
    if (!step_.is_on()) {
        vmcb_->rflags = step_.begin(vmcb_->rflags);
        clients_exceptions_ = vmcb_->intercept_exceptions;
        vmcb_->intercept_exceptions |= ~x86::vector_bit(x86::vector::nmi);
        vmcb_->clean_bits = 0;
    }
}

void Vcpu::stop_stepping() {
    vmcb_->rflags = step_.end(vmcb_->rflags);
    vmcb_->intercept_exceptions = clients_exceptions_;
    vmcb_->clean_bits = 0;
    if (mmu_ != nullptr) {
        mmu_->mmu().end_instruction();
        write_translation_registers();
    }
}

// false: the exit is another matter, still to be answered.
bool Vcpu::ends_instruction(const abi::Exit& exit) {
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    const bool ours = exception && exit.vector == x86::vector::debug && !step_.guest_traps();
    end_instruction();
    if (ours) {
        const u64 others = vmcb_->dr6 & 0xf; // breakpoints of the guest's own
        vmcb_->dr6 &= ~single_step;
        if (others == 0) {
            return true;
        }
    }
    return exception && (exceptions_ >> exit.vector & 1) == 0 && inject(exit);
}

} // namespace refhv::svm
