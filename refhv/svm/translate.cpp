// SPDX-License-Identifier: MIT
// Modes shadow and vtlb on SVM: what shadow/guest_exits.hpp needs of the VMCB.
#include "refhv/shadow/guest_exits.hpp"
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

namespace {

constexpr u16 cr_bit(unsigned n) {
    return static_cast<u16>(1u << n);
}

} // namespace

// On top of what the client asked for: what decides about translation, and the registers that hold other
// values than the guest believes.
void Vcpu::intercept_translation() {
    if (mmu_ == nullptr) {
        return;
    }
    vmcb_->intercept_exceptions |= x86::vector_bit(x86::vector::page_fault);
    vmcb_->intercept_cr_read |= cr_bit(0) | cr_bit(3) | cr_bit(4);
    vmcb_->intercept_cr_write |= cr_bit(0) | cr_bit(3) | cr_bit(4);
    vmcb_->intercept_1 |= intercept_1::invlpg;
    vmcb_->intercept_3 |= intercept_3::invpcid;
}

bool Vcpu::shadows(u32 code) const {
    constexpr u32 page_fault = static_cast<u32>(ExitCode::exception_0) + x86::vector::page_fault;
    const u32 cr = code & 15;
    return mmu_ != nullptr &&
           ((code < 0x20 && (cr == 0 || cr == 3 || cr == 4)) || code == page_fault ||
            code == static_cast<u32>(ExitCode::invlpg) || code == static_cast<u32>(ExitCode::invpcid) ||
            code == static_cast<u32>(ExitCode::msr));
}

bool Vcpu::in_64_bit_mode() const {
    constexpr u16 long_code = 1u << 9; // VMCB attributes: L
    return mmu_->guest().long_mode() && (vmcb_->cs.attributes & long_code) != 0;
}

u64 Vcpu::guest_gpr(unsigned number) const {
    return number == abi::rax ? vmcb_->rax : number == abi::rsp ? vmcb_->rsp : context_->gpr[number];
}

void Vcpu::set_guest_gpr(unsigned number, u64 value) {
    (number == abi::rax ? vmcb_->rax : number == abi::rsp ? vmcb_->rsp : context_->gpr[number]) = value;
}

shadow::PageFault Vcpu::page_fault_of(const abi::Exit&) const {
    return {vmcb_->exit_info_2, static_cast<u32>(vmcb_->exit_info_1)};
}

void Vcpu::hand_on_page_fault(abi::Exit& exit, u32 error) {
    vmcb_->exit_info_1 = error;
    exit.qualification = error;
}

void Vcpu::raise(u32 vector, u32 error) {
    vmcb_->event_injection =
        Event::of(Event::Type::exception, vector).injection() | Event::error_valid | u64{error} << 32;
}

void Vcpu::write_translation_registers() {
    const shadow::PagingState real = mmu_->mmu().cpu_state();
    vmcb_->cr0 = real.cr0;
    vmcb_->cr3 = real.cr3;
    vmcb_->cr4 = real.cr4 | (x86::read_cr4() & floor_.host_cr4);
    vmcb_->efer = real.efer | x86::efer::svme;
    forget_if_needed();
}

// Whatever changes the root asks for a flush too.
void Vcpu::forget_if_needed() {
    vmcb_->clean_bits = 0;
    if (mmu_->mmu().take_flush()) {
        vmcb_->cr3 = mmu_->real_cr3();
        retag();
    }
}

// What stands at RIP, fetched as the guest would.
x86::Decoded Vcpu::instruction(const abi::Exit&) {
    constexpr u16 default_32 = 1u << 10; // VMCB attributes: D
    const bool code64 = in_64_bit_mode();
    const auto mode = code64                                     ? x86::CodeSize::bits64
                      : (vmcb_->cs.attributes & default_32) != 0 ? x86::CodeSize::bits32
                                                                 : x86::CodeSize::bits16;
    const u64 base = code64 ? 0 : vmcb_->cs.base;
    u8 bytes[15];
    const shadow::Access fetch{.write = false, .fetch = true, .user = vmcb_->cpl == 3};
    shadow::Walk walk;
    mmu_->set_rights(vmcb_->rflags, vmcb_->cpl, fetch);
    const u64 at = code64 ? vmcb_->rip : static_cast<u32>(base + vmcb_->rip);
    const u64 count = mmu_->read(at, fetch, bytes, walk);
    u64 gpr[16];
    __builtin_memcpy(gpr, context_->gpr, sizeof gpr);
    gpr[abi::rax] = vmcb_->rax;
    gpr[abi::rsp] = vmcb_->rsp;
    x86::Decoded d = x86::decode({bytes, count}, gpr, vmcb_->rip, mode);
    const VmcbSegment* const segments[] = {&vmcb_->es, &vmcb_->cs, &vmcb_->ss,
                                           &vmcb_->ds, &vmcb_->fs, &vmcb_->gs};
    const bool has_base = !code64 || d.segment >= abi::fs;
    d.address += has_base ? segments[d.segment]->base : 0;
    d.address = code64 ? d.address : static_cast<u32>(d.address);
    return d;
}

bool Vcpu::translate(abi::Exit& exit) {
    if (answers_for_host(exit)) {
        return true;
    }
    if (!has_own_exits_) {
        return false;
    }
    if (mmu_ == nullptr || exit.reason == static_cast<u16>(abi::Reason::iret)) {
        return ends_nmi(exit);
    }
    return shadow::GuestExits(*this, *mmu_, intercepts_, exceptions_).answer(exit);
}

} // namespace refhv::svm
