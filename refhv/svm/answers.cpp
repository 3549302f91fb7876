// SPDX-License-Identifier: MIT
// What a policy may answer to an exit of SVM.
#include "refhv/svm/vcpu.hpp"
#include "refhv/vcpu/emulate.hpp"

namespace refhv::svm {

bool Vcpu::advance(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    // nRIP is that of an intercepted instruction, and of nothing else (APM 2 15.7.1).
    const bool by_instruction =
        reason != exception && reason != nested_violation && reason != nested_misconfig;
    const u64 length =
        by_instruction && exit.instruction_length != 0 ? exit.instruction_length : reaction.length;
    if (length == 0) {
        return false;
    }
    vmcb_->rip += length;
    vmcb_->interrupt_shadow &= ~u64{1};
    if ((vmcb_->rflags & x86::rflags_bits::tf) != 0) [[unlikely]] {
        raise_single_step();
    }
    return true;
}

// Behind an instruction that was answered, as behind one that was executed (APM 2 13.1.4). A VMCB has no
// field for debug exceptions that are pending, so it goes with the entry.
void Vcpu::raise_single_step() {
    constexpr u64 single_step = 1u << 14, branch_step = 1u << 1; // DR6.BS, DEBUGCTL.BTF
    if ((vmcb_->debugctl & branch_step) == 0) {
        vmcb_->dr6 |= single_step;
        vmcb_->event_injection = Event::of(Event::Type::exception, x86::vector::debug).injection();
        vmcb_->clean_bits = 0;
    }
}

bool Vcpu::emulates(abi::Reason reason) {
    return x86::emulates(reason);
}

namespace {

// The guest's MSRs that VMLOAD and VMSAVE carry lie in the VMCB while C++ runs, as EFER always does.
u64* place_of(Vmcb& vmcb, u32 index) {
    switch (index) {
    case x86::msr::efer:
        return &vmcb.efer;
    case x86::msr::star:
        return &vmcb.star;
    case x86::msr::lstar:
        return &vmcb.lstar;
    case x86::msr::cstar:
        return &vmcb.cstar;
    case x86::msr::sfmask:
        return &vmcb.sfmask;
    case x86::msr::kernel_gs_base:
        return &vmcb.kernel_gs_base;
    default:
        return nullptr;
    }
}

// VMRUN wants it set (APM 2 15.5.1), the guest does not know of it.
constexpr u64 hidden_bits(u32 index) {
    return index == x86::msr::efer ? x86::efer::svme : 0;
}

} // namespace

bool Vcpu::guest_msr(u32 index, u64& value) const {
    const u64* const at = place_of(*vmcb_, index);
    value = at != nullptr ? *at & ~hidden_bits(index) : 0;
    return at != nullptr;
}

void Vcpu::set_guest_msr(u32 index, u64 value) {
    *place_of(*vmcb_, index) = value | hidden_bits(index);
    vmcb_->clean_bits = 0;
}

bool Vcpu::emulate(const abi::Exit& exit, const Reaction& reaction) {
    u64* const gpr = context_->gpr;
    gpr[abi::rax] = vmcb_->rax;
    if (!x86::emulate(*this, static_cast<abi::Reason>(exit.reason), gpr, ipis_)) {
        return false;
    }
    vmcb_->rax = gpr[abi::rax];
    return advance(exit, reaction);
}

bool Vcpu::map(const GuestMemory& memory, const abi::Exit& exit) {
    // Rights only grow here; a nested page fault leaves no stale translation of its address behind (APM
    // 2 15.25.8).
    return mmu_ == nullptr && npt_.fix(memory, exit.guest_physical);
}

} // namespace refhv::svm
