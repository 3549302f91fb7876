// SPDX-License-Identifier: MIT
// Modes shadow and vtlb on VMX: the exits that belong to the guest's own paging (SDM 3C 33.3, "Memory
// virtualization").
#include "refhv/shadow/double_fault.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/operand.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {

constexpr u32 debug_vector = 1, page_fault_vector = 14, general_protection = 13, double_fault = 8;
constexpr u64 breakpoints = 15, single_step = 1u << 14; // DR6, and what goes there
constexpr u64 code_is_64 = 1u << 13;                    // CS access rights: L
constexpr u32 valid = 1u << 31, error_valid = 1u << 11, hardware_exception = 3u << 8;

[[nodiscard]] bool asked(u64 intercepts, abi::Intercept i) {
    return (intercepts >> static_cast<u8>(i) & 1) != 0;
}

} // namespace

bool Vcpu::shadows(u32 basic) const {
    const auto which = static_cast<BasicExit>(basic);
    return mmu_ != nullptr && (which == BasicExit::cr_access || which == BasicExit::exception_or_nmi ||
                               which == BasicExit::invlpg || which == BasicExit::invpcid ||
                               which == BasicExit::rdmsr || which == BasicExit::wrmsr);
}

// RSP lies in the VMCS while the guest runs.
void Vcpu::set_guest_gpr(unsigned number, u64 value) {
    context_->gpr[number] = value;
    if (number == abi::rsp) {
        write(Field::guest_rsp, value);
    }
}

bool Vcpu::in_64_bit_mode() const {
    return mmu_->guest().long_mode() &&
           (read(segment_field(Field::guest_es_rights, abi::cs)) & code_is_64) != 0;
}

u64 Vcpu::guest_gpr(unsigned number) const {
    return number == abi::rsp ? read(Field::guest_rsp) : context_->gpr[number];
}

void Vcpu::raise(u32 vector, u32 error) {
    write(Field::entry_interruption_info, valid | error_valid | hardware_exception | vector);
    write(Field::entry_exception_error, error);
}

void Vcpu::step_over() {
    abi::Exit instruction{};
    instruction.reason = static_cast<u16>(abi::Reason::cr_other);
    (void)advance(instruction, {});
}

void Vcpu::write_translation_registers() {
    const Capabilities& caps = cpu_.capabilities();
    const shadow::PagingState real = mmu_->mmu().cpu_state();
    write(Field::guest_cr0, (real.cr0 | caps.cr0_fixed0) & caps.cr0_fixed1);
    write(Field::guest_cr4, (real.cr4 | caps.cr4_fixed0) & caps.cr4_fixed1);
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
        const u64 vpid = read(Field::virtual_processor_id);
        if (vpid != 0) {
            (void)invvpid(cpu_.capabilities().invvpid_single() ? 1 : 2, {vpid, 0});
        }
    }
}

// After a guest's instruction that belongs to its paging. false: the policy's.
bool Vcpu::finish(shadow::Written written) {
    if (written == shadow::Written::not_ours) {
        return false;
    }
    if (written == shadow::Written::fault) {
        raise(general_protection, 0);
        return true;
    }
    write_translation_registers();
    step_over();
    return true;
}

bool Vcpu::write_control(unsigned number, u64 value) {
    return finish(mmu_->write_control(number, value, in_64_bit_mode()));
}

// The one that comes most often: nothing but the root is another.
bool Vcpu::load_cr3(u64 value) {
    const shadow::Written written = mmu_->load_cr3(value);
    if (written != shadow::Written::done) {
        return finish(written);
    }
    forget_if_needed();
    step_over();
    return true;
}

// The guest's #PF, or the #DF that it becomes.
void Vcpu::raise_page_fault(u64 address, u32 error) {
    if (shadow::makes_double_fault(read(Field::vectoring_info))) {
        raise(double_fault, 0);
        return;
    }
    x86::write_cr2(address);
    raise(page_fault_vector, error);
}

bool Vcpu::page_fault(abi::Exit& exit) {
    const u64 address = exit.qualification;
    const auto access = shadow::fault::access_of(static_cast<u32>(read(Field::exit_interruption_error)));
    shadow::Walk walk;
    const unsigned cpl = read(segment_field(Field::guest_es_rights, abi::ss)) >> 5 & 3;
    mmu_->set_rights(read(Field::guest_rflags), cpl, access);
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
    fault_error_ = walk.error;
    if ((exceptions_ >> page_fault_vector & 1) != 0) {
        own_fault_ = true; // the client wants to see the guest's faults itself
        return false;
    }
    raise_page_fault(address, walk.error);
    return true;
}

// The guest's next instruction is followed by a #DB, and no exception is delivered before it has come back
// here, so that RFLAGS.TF is seen by nothing but a PUSHF that itself writes against the rights of a page. Not
// the monitor trap flag: not every CPU has it, and one way that is always taken is better tested.
void Vcpu::begin_instruction() {
    if (!stepping_) {
        stepping_ = true;
        const u64 rflags = read(Field::guest_rflags);
        guest_trap_flag_ = rflags & x86::rflags_bits::tf;
        write(Field::guest_rflags, rflags | x86::rflags_bits::tf);
        write(Field::exception_bitmap, ~u32{0});
        if ((read(Field::guest_interruptibility) & 3) != 0) { // SDM 3C 27.3.1.5
            write(Field::guest_pending_debug, single_step);
        }
    }
}

void Vcpu::end_instruction() {
    if (stepping_) {
        stepping_ = false;
        const u64 rflags = read(Field::guest_rflags) & ~x86::rflags_bits::tf;
        write(Field::guest_rflags, rflags | guest_trap_flag_);
        write(Field::exception_bitmap, exceptions_ | 1u << page_fault_vector);
        if (guest_trap_flag_ == 0) {
            write(Field::guest_pending_debug, 0);
        }
        mmu_->mmu().end_instruction();
        write_translation_registers();
    }
}

// false: the exit is another matter, still to be answered.
bool Vcpu::ends_instruction(const abi::Exit& exit) {
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    const bool debug = exception && exit.vector == debug_vector;
    const bool ours = debug && guest_trap_flag_ == 0;
    end_instruction();
    const u64 causes = exit.qualification & (ours ? breakpoints : breakpoints | single_step);
    if (ours && causes == 0) {
        return true;
    }
    if (debug) { // the exit has left DR6 alone (SDM 3C 28.2.1)
        x86::write_dr6(x86::read_dr6() | causes);
    }
    return exception && (exceptions_ >> exit.vector & 1) == 0 && inject(exit);
}

bool Vcpu::invalidate_pcid() {
    const u64 info = read(Field::exit_instruction_info);
    const u64 at = operand_address(info, read(Field::exit_qualification), context_->gpr);
    u64 descriptor[2] = {};
    shadow::Walk walk;
    mmu_->set_rights(read(Field::guest_rflags), 0, {});
    const u64 got = mmu_->read(at, {}, {reinterpret_cast<u8*>(descriptor), sizeof descriptor}, walk);
    if (got < sizeof descriptor) {
        raise_page_fault(at + got, walk.error);
        return true;
    }
    const u64 type = guest_gpr(info >> 28 & 15);
    return finish(mmu_->invalidate_pcid(in_64_bit_mode() ? type : static_cast<u32>(type), descriptor[0],
                                        descriptor[1]));
}

bool Vcpu::move_efer(bool is_write) {
    if (is_write) {
        const u64 value = static_cast<u32>(context_->gpr[abi::rax]) | context_->gpr[abi::rdx] << 32;
        return finish(mmu_->write_efer(value));
    }
    context_->gpr[abi::rax] = static_cast<u32>(mmu_->guest().efer);
    context_->gpr[abi::rdx] = mmu_->guest().efer >> 32;
    step_over();
    return true;
}

bool Vcpu::translate(abi::Exit& exit) {
    if (mmu_ == nullptr) {
        return false;
    }
    using enum abi::Reason;
    own_fault_ = false;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    const auto mine = [&](abi::Intercept i) { return !asked(intercepts_, i); };
    if (reason == exception && exit.vector == page_fault_vector) {
        return page_fault(exit);
    }
    if (stepping_ && reason != external_interrupt && reason != nmi && ends_instruction(exit)) {
        return true;
    }
    const unsigned gpr = exit.qualification >> 8 & 15;
    switch (reason) {
    case cr0_write:
        return mine(abi::Intercept::cr0_write) && write_control(0, guest_gpr(gpr));
    case cr3_write:
        return mine(abi::Intercept::cr3_write) && load_cr3(guest_gpr(gpr));
    case cr4_write:
        return mine(abi::Intercept::cr4_write) && write_control(4, guest_gpr(gpr));
    case cr3_read:
        if (!mine(abi::Intercept::cr3_read)) {
            return false;
        }
        set_guest_gpr(gpr, mmu_->read_control(3));
        step_over();
        return true;
    case cr_other: // CLTS is access type 2; LMSW is left to the policy
        return (exit.qualification >> 4 & 3) == 2 && write_control(0, mmu_->read_control(0) & ~x86::cr0::ts);
    case invlpg:
        if (!mine(abi::Intercept::invlpg)) {
            return false;
        }
        mmu_->mmu().invalidate(exit.qualification);
        forget_if_needed();
        step_over();
        return true;
    case invpcid:
        return mine(abi::Intercept::invpcid) && invalidate_pcid();
    case rdmsr:
    case wrmsr:
        return static_cast<u32>(context_->gpr[abi::rcx]) == x86::msr::efer && move_efer(reason == wrmsr);
    default:
        return false;
    }
}

} // namespace refhv::vmx
