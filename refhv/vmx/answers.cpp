// SPDX-License-Identifier: MIT
// What a policy may answer to an exit of VMX.
#include "refhv/vcpu/emulate.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

bool Vcpu::advance(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    // The length field is defined for exits by instructions and for software exceptions only (SDM 3C 28.2.5).
    const bool has_length = reason != exception && reason != nested_violation && reason != nested_misconfig &&
                            reason != apic_access;
    const u64 length = has_length ? read(Field::exit_instruction_length) : reaction.length;
    if (length == 0) {
        return false;
    }
    write(Field::guest_rip, read(Field::guest_rip) + length);
    const u64 blocking = read(Field::guest_interruptibility);
    if ((blocking & 3) != 0) {
        write(Field::guest_interruptibility, blocking & ~u64{3});
    }
    return true;
}

bool Vcpu::emulates(abi::Reason reason) {
    return x86::emulates(reason);
}

// Not in modes shadow and vtlb: there it decides about translation.
bool Vcpu::emulate_efer(abi::Reason reason) {
    u64 efer = read(Field::guest_efer);
    u64* const gpr = context_->gpr;
    if (reason == abi::Reason::rdmsr) {
        gpr[abi::rax] = static_cast<u32>(efer);
        gpr[abi::rdx] = efer >> 32;
        return true;
    }
    const u64 wanted = x86::edx_eax(gpr);
    if (!x86::emulate_write_efer(wanted, read(Field::guest_cr0), efer)) {
        return false;
    }
    write(Field::guest_efer, efer);
    return true;
}

bool Vcpu::emulate(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    if (reason == rdmsr || reason == wrmsr) {
        // During a run these MSRs hold the guest's values.
        const u32 index = static_cast<u32>(context_->gpr[abi::rcx]);
        if (index == x86::msr::efer) {
            return emulate_efer(reason) && advance(exit, reaction);
        }
        if (index == x86::msr::x2apic_icr && reason == wrmsr) {
            return ipis_.send(x86::edx_eax(context_->gpr)) && advance(exit, reaction);
        }
        if (!x86::is_guest_msr(index)) {
            return false;
        }
        u64 value = x86::rdmsr(index);
        if (!x86::emulate_msr(reason, context_->gpr, value)) {
            return false;
        }
        x86::wrmsr(index, value);
    } else if (!x86::emulate(reason, context_->gpr)) {
        return false;
    }
    return advance(exit, reaction);
}

bool Vcpu::map(const GuestMemory& memory, const abi::Exit& exit) {
    if (exit.reason == static_cast<u16>(abi::Reason::page_modification_log_full)) {
        write(Field::pml_index, pml_entries - 1);
        return true;
    }
    // An EPT violation has dropped what was cached for this address (SDM 3C 29.4.3.1), and from an entry that
    // is misconfigured nothing is cached (29.4.2), so no INVEPT.
    return mmu_ == nullptr && ept_.fix(memory, exit.guest_physical);
}

} // namespace refhv::vmx
