// SPDX-License-Identifier: MIT
// What a policy may answer to an exit of VMX.
#include "refhv/vcpu/emulate.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {

// Exits by an instruction: 10 to 32, 36, 39, 40, 46, 47, 50, 51, 53 to 55, 57 to 61, 63, 64, 67 and 68 of SDM
// 3D appendix C, whose length the CPU tells; elsewhere the field is undefined (SDM 3C 28.2.5).
constexpr bool has_length(u32 basic) {
    constexpr u64 instructions = 0xbeec'c191'ffff'fc00;
    return basic < 64 ? (instructions >> basic & 1) != 0 : basic == 64 || basic == 67 || basic == 68;
}

constexpr u64 by_sti_or_mov_ss = 3, single_step = 1u << 14, branch_step = 1u << 1; // DEBUGCTL.BTF

} // namespace

void Vcpu::end_interrupt_shadow() {
    const u64 blocking = read(Field::guest_interruptibility);
    if ((blocking & by_sti_or_mov_ss) != 0) {
        write(Field::guest_interruptibility, blocking & ~by_sti_or_mov_ss);
    }
}

// Behind an instruction that was answered: blocking by STI and MOV SS is over, and with RFLAGS.TF a #DB is
// due (SDM 3A 17.3.1.4; 3C 25.4.2).
void Vcpu::move_rip(u64 length) {
    write(Field::guest_rip, read(Field::guest_rip) + length);
    end_interrupt_shadow();
    if ((read(Field::guest_rflags) & x86::rflags_bits::tf) != 0 &&
        (read(Field::guest_debugctl) & branch_step) == 0) [[unlikely]] {
        write(Field::guest_pending_debug, read(Field::guest_pending_debug) | single_step);
    }
}

bool Vcpu::advance(const abi::Exit& exit, const Reaction& reaction) {
    const bool told = has_length(exit.raw_reason & 0xffff);
    const u64 length = told ? read(Field::exit_instruction_length) : reaction.length;
    if (length == 0) {
        return false;
    }
    move_rip(length);
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
