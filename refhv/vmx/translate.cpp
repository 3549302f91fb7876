// SPDX-License-Identifier: MIT
// Modes shadow and vtlb on VMX: what shadow/guest_exits.hpp needs of the VMCS.
#include "refhv/shadow/guest_exits.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/operand.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {
constexpr u64 code_is_64 = 1u << 13; // CS access rights: L
} // namespace

bool Vcpu::shadows(u32 basic) const {
    const auto which = static_cast<BasicExit>(basic);
    return mmu_ != nullptr && (which == BasicExit::cr_access || which == BasicExit::exception_or_nmi ||
                               which == BasicExit::invlpg || which == BasicExit::invpcid ||
                               which == BasicExit::rdmsr || which == BasicExit::wrmsr);
}

u64 Vcpu::guest_rflags() const {
    return read(Field::guest_rflags);
}

unsigned Vcpu::guest_cpl() const {
    return read(segment_field(Field::guest_es_rights, abi::ss)) >> 5 & 3;
}

bool Vcpu::in_64_bit_mode() const {
    return mmu_->guest().long_mode() &&
           (read(segment_field(Field::guest_es_rights, abi::cs)) & code_is_64) != 0;
}

// RSP lies in the VMCS while the guest runs.
u64 Vcpu::guest_gpr(unsigned number) const {
    return number == abi::rsp ? read(Field::guest_rsp) : context_->gpr[number];
}

void Vcpu::set_guest_gpr(unsigned number, u64 value) {
    context_->gpr[number] = value;
    if (number == abi::rsp) {
        write(Field::guest_rsp, value);
    }
}

u64 Vcpu::vectoring() const {
    return read(Field::vectoring_info);
}

shadow::PageFault Vcpu::page_fault_of(const abi::Exit& exit) const {
    return {exit.qualification, static_cast<u32>(read(Field::exit_interruption_error))};
}

void Vcpu::hand_on_page_fault(abi::Exit&, u32 error) {
    fault_error_ = error;
    own_fault_ = true;
}

// In real mode no exception has an error code (SDM 3C 27.2.1.3).
void Vcpu::raise(u32 vector, u32 error) {
    iret_unblocked_ = false; // the instruction has faulted, IRET too
    const bool protection = (read(Field::guest_cr0) & x86::cr0::pe) != 0;
    write(Field::entry_interruption_info,
          Event::of(Event::Type::exception, vector).injection() | (protection ? Event::error_valid : 0));
    write(Field::entry_exception_error, error);
}

void Vcpu::write_translation_registers() {
    const Capabilities& caps = cpu_.capabilities();
    const shadow::PagingState real = mmu_->mmu().cpu_state();
    write(Field::guest_cr0, (real.cr0 | caps.cr0_fixed0) & caps.cr0_fixed1);
    write(Field::guest_cr3, real.cr3);
    const u64 own = x86::read_cr4() & floor_.host_cr4;
    write(Field::guest_cr4, (real.cr4 | caps.cr4_fixed0 | own) & caps.cr4_fixed1);
    write(Field::cr0_shadow, mmu_->guest().cr0);
    write(Field::cr4_shadow, mmu_->guest().cr4);
    if (real.efer != real_efer_) {
        real_efer_ = real.efer;
        write(Field::guest_efer, real.efer);
        const u64 entry = read(Field::entry_controls) & ~u64{entry_control::ia32e_guest};
        write(Field::entry_controls, entry | (real.long_mode() ? entry_control::ia32e_guest : 0));
    }
    forget_if_needed();
}

// Whatever changes the root asks for a flush too. Without VPID every entry and exit flushes by itself (SDM 3C
// 29.4.3.1). With it nothing does, not even another CR3.
void Vcpu::forget_if_needed() {
    if (mmu_->mmu().take_flush()) {
        write(Field::guest_cr3, mmu_->real_cr3());
        drop_tagged();
    }
}

// As the exit describes it (SDM 3C tables 28-3 and 28-13, 28.2.1); its length is in the VMCS for advance().
x86::Decoded Vcpu::instruction(const abi::Exit& exit) const {
    using enum abi::Reason;
    using Kind = x86::Decoded::Kind;
    constexpr Kind accesses[] = {Kind::mov_to_cr, Kind::mov_from_cr, Kind::clts, Kind::unknown}; // LMSW
    x86::Decoded d;
    switch (static_cast<abi::Reason>(exit.reason)) {
    case invlpg:
        d.kind = Kind::invlpg;
        d.address = exit.qualification;
        break;
    case invpcid: {
        const u64 info = read(Field::exit_instruction_info);
        d.kind = Kind::invpcid;
        d.gpr = info >> 28 & 15;
        d.address = operand_address(info, exit.qualification, context_->gpr);
        break;
    }
    default: // control-register accesses
        d.kind = accesses[exit.qualification >> 4 & 3];
        d.cr = exit.qualification & 15;
        d.gpr = exit.qualification >> 8 & 15;
    }
    return d;
}

bool Vcpu::translate(abi::Exit& exit) {
    if (answers_for_host(exit)) {
        return true;
    }
    if (mmu_ == nullptr) {
        return false;
    }
    own_fault_ = false;
    return shadow::GuestExits(*this, *mmu_, intercepts_, exceptions_).answer(exit);
}

} // namespace refhv::vmx
