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

// During a run these MSRs hold the guest's values; EFER has a field.
bool Vcpu::guest_msr(u32 index, u64& value) const {
    if (index == x86::msr::efer) {
        value = read(Field::guest_efer);
        return true;
    }
    if (!x86::is_guest_msr(index)) {
        return false;
    }
    value = x86::rdmsr(index);
    return true;
}

void Vcpu::set_guest_msr(u32 index, u64 value) {
    if (index == x86::msr::efer) {
        write(Field::guest_efer, value);
    } else {
        x86::wrmsr(index, value);
    }
}

u64 Vcpu::guest_cr0() const {
    return read(Field::guest_cr0);
}

bool Vcpu::emulate(const abi::Exit& exit, const Reaction& reaction) {
    return x86::emulate(*this, static_cast<abi::Reason>(exit.reason), context_->gpr, ipis_) &&
           advance(exit, reaction);
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
