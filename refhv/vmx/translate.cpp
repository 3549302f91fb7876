// SPDX-License-Identifier: MIT
// Modes shadow and vtlb on VMX: the exits that belong to the guest's own paging (SDM 3C 33.3, "Memory
// virtualization").
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {

constexpr u32 page_fault_vector = 14, general_protection = 13, double_fault = 8;
constexpr u32 valid = 1u << 31, error_valid = 1u << 11, hardware_exception = 3u << 8;

[[nodiscard]] bool asked(u64 intercepts, abi::Intercept i) {
    return (intercepts >> static_cast<u8>(i) & 1) != 0;
}

// SDM 3A table 6-5: a #PF during the delivery of one of these is a double fault.
[[nodiscard]] bool makes_double_fault(u32 vectoring) {
    const u32 vector = vectoring & 0xff;
    const bool contributory = vector == 0 || (vector >= 10 && vector <= 13) || vector == page_fault_vector;
    return (vectoring & valid) != 0 && (vectoring & 0x700) == hardware_exception && contributory;
}

} // namespace

bool Vcpu::shadows(u32 basic) const {
    const auto which = static_cast<BasicExit>(basic);
    return mmu_ != nullptr && (which == BasicExit::cr_access || which == BasicExit::exception_or_nmi ||
                               which == BasicExit::invlpg || which == BasicExit::invpcid);
}

u64& Vcpu::guest_gpr(unsigned number) {
    if (number == abi::rsp) {
        context_->gpr[abi::rsp] = read(Field::guest_rsp);
    }
    return context_->gpr[number];
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
    write(Field::guest_cr0, (mmu_->real_cr0() | caps.cr0_fixed0) & caps.cr0_fixed1);
    write(Field::guest_cr4, (mmu_->real_cr4() | caps.cr4_fixed0) & caps.cr4_fixed1);
    write(Field::guest_cr3, mmu_->real_cr3());
    write(Field::cr0_shadow, mmu_->read_control(0));
    write(Field::cr4_shadow, mmu_->read_control(4));
    forget_if_needed();
}

// Without VPID every entry and exit flushes by itself (SDM 3C 29.4.3.1).
void Vcpu::forget_if_needed() {
    if (mmu_->mmu().take_flush()) {
        const u64 vpid = read(Field::virtual_processor_id);
        if (vpid != 0) {
            (void)invvpid(cpu_.capabilities().invvpid_single() ? 1 : 2, {vpid, 0});
        }
    }
}

bool Vcpu::write_control(const abi::Exit&, unsigned number, u64 value) {
    if (!mmu_->write_control(number, value)) {
        raise(general_protection, 0);
        return true;
    }
    write_translation_registers();
    step_over();
    return true;
}

bool Vcpu::page_fault(abi::Exit& exit) {
    const u64 address = exit.qualification;
    const u32 error = static_cast<u32>(read(Field::exit_interruption_error));
    shadow::Walk walk{};
    mmu_->mmu().set_rights(read(Field::guest_rflags), 0);
    const shadow::Answer answer = mmu_->mmu().page_fault(address, shadow::Access::of(error), walk);
    if (answer == shadow::Answer::retry) {
        forget_if_needed();
        return redeliver(exit);
    }
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
    if (makes_double_fault(static_cast<u32>(read(Field::vectoring_info)))) {
        raise(double_fault, 0);
        return true;
    }
    x86::write_cr2(address);
    raise(page_fault_vector, walk.error);
    return true;
}

bool Vcpu::translate(abi::Exit& exit) {
    if (mmu_ == nullptr) {
        return false;
    }
    using enum abi::Reason;
    own_fault_ = false;
    const unsigned gpr = exit.qualification >> 8 & 15;
    switch (static_cast<abi::Reason>(exit.reason)) {
    case exception:
        return exit.vector == page_fault_vector && page_fault(exit);
    case cr0_write:
        return !asked(intercepts_, abi::Intercept::cr0_write) && write_control(exit, 0, guest_gpr(gpr));
    case cr3_write:
        return !asked(intercepts_, abi::Intercept::cr3_write) && write_control(exit, 3, guest_gpr(gpr));
    case cr4_write:
        return !asked(intercepts_, abi::Intercept::cr4_write) && write_control(exit, 4, guest_gpr(gpr));
    case cr3_read:
        if (asked(intercepts_, abi::Intercept::cr3_read)) {
            return false;
        }
        guest_gpr(gpr) = mmu_->read_control(3);
        if (gpr == abi::rsp) {
            write(Field::guest_rsp, context_->gpr[abi::rsp]);
        }
        step_over();
        return true;
    case cr_other: // CLTS is access type 2; LMSW is left to the policy
        return (exit.qualification >> 4 & 3) == 2 &&
               write_control(exit, 0, mmu_->read_control(0) & ~x86::cr0::ts);
    case invlpg:
        if (asked(intercepts_, abi::Intercept::invlpg)) {
            return false;
        }
        mmu_->mmu().invalidate(exit.qualification);
        forget_if_needed();
        step_over();
        return true;
    case invpcid: // whatever it names is among everything
        if (asked(intercepts_, abi::Intercept::invpcid)) {
            return false;
        }
        mmu_->mmu().drop_all();
        write_translation_registers();
        step_over();
        return true;
    default:
        return false;
    }
}

} // namespace refhv::vmx
