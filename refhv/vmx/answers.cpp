// SPDX-License-Identifier: MIT
// What a policy may answer to an exit of VMX.
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/emulate.hpp"

namespace refhv::vmx {

namespace {
constexpr u32 valid = 1u << 31;
}

bool Vcpu::advance(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    // The length field is defined for exits by instructions and for software exceptions only (SDM 3C 28.2.5).
    const bool has_length = reason != exception && reason != nested_violation && reason != nested_misconfig;
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
    const u64 wanted = static_cast<u32>(gpr[abi::rax]) | gpr[abi::rdx] << 32;
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

bool Vcpu::inject(const abi::Exit& exit) {
    if ((exit.interruption_info & valid) == 0) {
        return false;
    }
    const u32 type = exit.interruption_info >> 8 & 7;
    if (exit.vector == 14) {
        x86::write_cr2(exit.qualification); // an intercepted #PF leaves CR2 to us (SDM 3C 28.2.1)
    }
    write(Field::entry_interruption_info, exit.interruption_info & (valid | 0xfff));
    write(Field::entry_exception_error, own_fault_ ? fault_error_ : read(Field::exit_interruption_error));
    if (type == 4 || type == 5 || type == 6) {
        write(Field::entry_instruction_length, read(Field::exit_instruction_length));
    }
    return true;
}

bool Vcpu::deliver(u32 event) {
    write(Field::entry_exception_error, 0);
    write(Field::entry_interruption_info, valid | event);
    return true;
}

bool Vcpu::redeliver(const abi::Exit&) {
    const u32 info = static_cast<u32>(read(Field::vectoring_info));
    if ((info & valid) != 0) {
        write(Field::entry_interruption_info, info & (valid | 0xfff)); // SDM 3C 28.2.4: the same format
        write(Field::entry_exception_error, read(Field::vectoring_error));
        write(Field::entry_instruction_length, read(Field::exit_instruction_length));
    }
    return true;
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
