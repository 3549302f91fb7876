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
    return true;
}

bool Vcpu::emulates(abi::Reason reason) {
    return x86::emulates(reason);
}

// The guest's MSRs that VMLOAD and VMSAVE carry lie in the VMCB while C++ runs.
u64* Vcpu::guest_msr(u32 index) {
    switch (index) {
    case x86::msr::star:
        return &vmcb_->star;
    case x86::msr::lstar:
        return &vmcb_->lstar;
    case x86::msr::cstar:
        return &vmcb_->cstar;
    case x86::msr::sfmask:
        return &vmcb_->sfmask;
    case x86::msr::kernel_gs_base:
        return &vmcb_->kernel_gs_base;
    default:
        return nullptr;
    }
}

// Not in modes shadow and vtlb: there it decides about translation.
bool Vcpu::emulate_efer(abi::Reason reason) {
    u64 efer = vmcb_->efer & ~x86::efer::svme;
    if (reason == abi::Reason::rdmsr) {
        vmcb_->rax = static_cast<u32>(efer);
        context_->gpr[abi::rdx] = efer >> 32;
        return true;
    }
    const u64 wanted = static_cast<u32>(vmcb_->rax) | context_->gpr[abi::rdx] << 32;
    if (!x86::emulate_write_efer(wanted, vmcb_->cr0, efer)) {
        return false;
    }
    vmcb_->efer = efer | x86::efer::svme;
    vmcb_->clean_bits = 0;
    return true;
}

bool Vcpu::emulate(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    u64* gpr = context_->gpr;
    gpr[abi::rax] = vmcb_->rax;
    if (reason == rdmsr || reason == wrmsr) {
        const u32 index = static_cast<u32>(gpr[abi::rcx]);
        if (index == x86::msr::efer) {
            return emulate_efer(reason) && advance(exit, reaction);
        }
        if (index == x86::msr::x2apic_icr && reason == wrmsr) {
            return ipis_.send(x86::edx_eax(gpr)) && advance(exit, reaction);
        }
        u64* const value = guest_msr(index);
        if (value == nullptr || !x86::emulate_msr(reason, gpr, *value)) {
            return false;
        }
    } else if (!x86::emulate(reason, gpr)) {
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
