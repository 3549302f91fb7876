// SPDX-License-Identifier: MIT
// Modes shadow and vtlb on SVM: the exits that belong to the guest's own paging (APM 2 15.25 without nested
// paging).
#include "refhv/shadow/double_fault.hpp"
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

namespace {

constexpr u32 page_fault_vector = 14, general_protection = 13, double_fault = 8;

[[nodiscard]] bool asked(u64 intercepts, abi::Intercept i) {
    return (intercepts >> static_cast<u8>(i) & 1) != 0;
}

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
    vmcb_->intercept_exceptions |= 1u << page_fault_vector;
    vmcb_->intercept_cr_read |= cr_bit(0) | cr_bit(3) | cr_bit(4);
    vmcb_->intercept_cr_write |= cr_bit(0) | cr_bit(3) | cr_bit(4);
    vmcb_->intercept_1 |= intercept_1::invlpg;
    vmcb_->intercept_3 |= intercept_3::invpcid;
}

bool Vcpu::shadows(u32 code) const {
    const u32 cr = code & 15;
    return mmu_ != nullptr &&
           ((code < 0x20 && (cr == 0 || cr == 3 || cr == 4)) || code == 0x40 + page_fault_vector ||
            code == static_cast<u32>(ExitCode::invlpg) || code == static_cast<u32>(ExitCode::invpcid) ||
            code == static_cast<u32>(ExitCode::msr));
}

u64& Vcpu::guest_gpr(unsigned number) {
    return number == abi::rax ? vmcb_->rax : number == abi::rsp ? vmcb_->rsp : context_->gpr[number];
}

void Vcpu::raise(u32 vector, u32 error) {
    constexpr u64 exception = 3u << 8, error_valid = 1u << 11, valid = 1u << 31;
    vmcb_->event_injection = vector | exception | error_valid | valid | u64{error} << 32;
}

void Vcpu::write_translation_registers() {
    const shadow::PagingState real = mmu_->mmu().cpu_state();
    vmcb_->cr0 = real.cr0;
    vmcb_->cr4 = real.cr4;
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

bool Vcpu::in_64_bit_mode() const {
    constexpr u16 long_code = 1u << 9; // VMCB attributes: L
    return mmu_->guest().long_mode() && (vmcb_->cs.attributes & long_code) != 0;
}

// What stands at RIP, fetched as the guest would.
x86::Decoded Vcpu::instruction() {
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

// After a guest's instruction that belongs to its paging. false: the policy's.
bool Vcpu::finish(shadow::Written written, const abi::Exit& exit, u8 length) {
    if (written == shadow::Written::not_ours) {
        return false;
    }
    if (written == shadow::Written::fault) {
        raise(general_protection, 0);
        return true;
    }
    write_translation_registers();
    return advance(exit, {abi::Action::advance, length});
}

bool Vcpu::move_control(abi::Reason reason) {
    using Kind = x86::Decoded::Kind;
    const x86::Decoded d = instruction();
    abi::Exit instruction_exit{};
    instruction_exit.reason = static_cast<u16>(reason);
    if (d.kind == Kind::mov_from_cr) {
        guest_gpr(d.gpr) = mmu_->read_control(d.cr);
        return advance(instruction_exit, {abi::Action::advance, d.length});
    }
    if (d.kind == Kind::clts) {
        const u64 value = mmu_->read_control(0) & ~x86::cr0::ts;
        return finish(mmu_->write_control(0, value, in_64_bit_mode()), instruction_exit, d.length);
    }
    if (d.kind == Kind::mov_to_cr &&
        d.cr == 3) { // the one that comes most often: nothing but the root is another
        const shadow::Written written = mmu_->load_cr3(guest_gpr(d.gpr));
        if (written == shadow::Written::done) {
            forget_if_needed();
            return advance(instruction_exit, {abi::Action::advance, d.length});
        }
        return finish(written, instruction_exit, d.length);
    }
    return d.kind == Kind::mov_to_cr && // SMSW, LMSW: the policy's
           finish(mmu_->write_control(d.cr, guest_gpr(d.gpr), in_64_bit_mode()), instruction_exit, d.length);
}

bool Vcpu::move_efer(const abi::Exit& exit) {
    constexpr u8 length = 2;
    u64* gpr = context_->gpr;
    if (exit.reason == static_cast<u16>(abi::Reason::wrmsr)) {
        const u64 value = static_cast<u32>(vmcb_->rax) | gpr[abi::rdx] << 32;
        return finish(mmu_->write_efer(value), exit, length);
    }
    vmcb_->rax = static_cast<u32>(mmu_->guest().efer);
    gpr[abi::rdx] = mmu_->guest().efer >> 32;
    return advance(exit, {abi::Action::advance, length});
}

bool Vcpu::invalidate_page(const abi::Exit& exit) {
    const x86::Decoded d = instruction();
    if (d.kind != x86::Decoded::Kind::invlpg) {
        return false;
    }
    mmu_->mmu().invalidate(d.address);
    return finish(shadow::Written::done, exit, d.length);
}

bool Vcpu::invalidate_pcid(const abi::Exit& exit) {
    const x86::Decoded d = instruction();
    if (d.kind != x86::Decoded::Kind::invpcid) {
        return false;
    }
    u64 descriptor[2] = {};
    shadow::Walk walk;
    mmu_->set_rights(vmcb_->rflags, vmcb_->cpl, {});
    const u64 got = mmu_->read(d.address, {}, {reinterpret_cast<u8*>(descriptor), sizeof descriptor}, walk);
    if (got < sizeof descriptor) {
        raise_page_fault(d.address + got, walk.error);
        return true;
    }
    const u64 type = in_64_bit_mode() ? guest_gpr(d.gpr) : static_cast<u32>(guest_gpr(d.gpr));
    return finish(mmu_->invalidate_pcid(type, descriptor[0], descriptor[1]), exit, d.length);
}

// The guest's #PF, or the #DF that it becomes.
void Vcpu::raise_page_fault(u64 address, u32 error) {
    if (shadow::makes_double_fault(vmcb_->exit_int_info)) {
        raise(double_fault, 0);
        return;
    }
    vmcb_->cr2 = address;
    raise(page_fault_vector, error);
}

bool Vcpu::page_fault(abi::Exit& exit) {
    const u64 address = vmcb_->exit_info_2;
    const auto access = shadow::fault::access_of(static_cast<u32>(vmcb_->exit_info_1));
    shadow::Walk walk;
    mmu_->set_rights(vmcb_->rflags, vmcb_->cpl, access);
    const shadow::Answer answer = mmu_->mmu().page_fault(address, access, walk);
    if (answer == shadow::Answer::retry) {
        if (mmu_->mmu().for_one_instruction()) {
            begin_instruction();
        }
        forget_if_needed();
        return redeliver(exit);
    }
    end_instruction();
    if (answer == shadow::Answer::outside) {
        exit.reason = static_cast<u16>(abi::Reason::nested_violation);
        exit.guest_physical = walk.gpa;
        return false;
    }
    if ((exceptions_ >> page_fault_vector & 1) != 0) {
        vmcb_->exit_info_1 = walk.error; // the client wants to see the guest's faults itself
        exit.qualification = walk.error;
        return false;
    }
    raise_page_fault(address, walk.error);
    return true;
}

bool Vcpu::translate(abi::Exit& exit) {
    if (!has_own_exits_) {
        return false;
    }
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    if (mmu_ == nullptr) {
        return ends_nmi(exit);
    }
    const auto mine = [&](abi::Intercept i) { return !asked(intercepts_, i); };
    if (reason == exception && exit.vector == page_fault_vector) {
        return page_fault(exit);
    }
    if (stepping_ && reason != external_interrupt && reason != nmi && reason != iret &&
        ends_instruction(exit)) {
        return true;
    }
    switch (reason) {
    case cr0_write:
        return mine(abi::Intercept::cr0_write) && move_control(reason);
    case cr3_write:
        return mine(abi::Intercept::cr3_write) && move_control(reason);
    case cr4_write:
        return mine(abi::Intercept::cr4_write) && move_control(reason);
    case cr0_read:
        return mine(abi::Intercept::cr0_read) && move_control(reason);
    case cr3_read:
        return mine(abi::Intercept::cr3_read) && move_control(reason);
    case cr4_read:
        return mine(abi::Intercept::cr4_read) && move_control(reason);
    case invlpg:
        return mine(abi::Intercept::invlpg) && invalidate_page(exit);
    case invpcid:
        return mine(abi::Intercept::invpcid) && invalidate_pcid(exit);
    case iret:
        return ends_nmi(exit);
    case rdmsr:
    case wrmsr:
        return static_cast<u32>(context_->gpr[abi::rcx]) == x86::msr::efer && move_efer(exit);
    default:
        return false;
    }
}

} // namespace refhv::svm
