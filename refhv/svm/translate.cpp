// SPDX-License-Identifier: MIT
// Modes shadow and vtlb on SVM: the exits that belong to the guest's own paging (APM 2 15.25 without nested
// paging).
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

namespace {

constexpr u32 page_fault_vector = 14, general_protection = 13, double_fault = 8;

[[nodiscard]] bool asked(u64 intercepts, abi::Intercept i) {
    return (intercepts >> static_cast<u8>(i) & 1) != 0;
}

// APM 2 table 8-3: a #PF during the delivery of one of these is a double fault.
[[nodiscard]] bool makes_double_fault(u64 exit_int_info) {
    const u32 vector = exit_int_info & 0xff;
    const bool contributory = vector == 0 || (vector >= 10 && vector <= 13) || vector == page_fault_vector;
    constexpr u64 valid = 1u << 31, exception = 3;
    return (exit_int_info & valid) != 0 && (exit_int_info >> 8 & 7) == exception && contributory;
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
            code == static_cast<u32>(ExitCode::invlpg) || code == static_cast<u32>(ExitCode::invpcid));
}

u64& Vcpu::guest_gpr(unsigned number) {
    return number == abi::rax ? vmcb_->rax : number == abi::rsp ? vmcb_->rsp : context_->gpr[number];
}

void Vcpu::raise(u32 vector, u32 error) {
    constexpr u64 exception = 3u << 8, error_valid = 1u << 11, valid = 1u << 31;
    vmcb_->event_injection = vector | exception | error_valid | valid | u64{error} << 32;
}

void Vcpu::write_translation_registers() {
    vmcb_->cr0 = mmu_->real_cr0();
    vmcb_->cr3 = mmu_->real_cr3();
    vmcb_->cr4 = mmu_->real_cr4();
    vmcb_->efer = mmu_->real_efer() | x86::efer::svme;
    vmcb_->clean_bits = 0;
    if (mmu_->mmu().take_flush()) {
        retag();
    }
}

// What stands at RIP, fetched as the guest would.
x86::Decoded Vcpu::instruction() {
    u8 bytes[15];
    usize count = 0;
    const bool user = vmcb_->cpl == 3;
    mmu_->mmu().set_rights(vmcb_->rflags, 0);
    while (count < sizeof bytes) {
        u64 gpa = 0;
        if (!mmu_->mmu().translate(vmcb_->rip + count, {.write = false, .fetch = true, .user = user}, gpa)) {
            break;
        }
        const u64 in_page = page_size - gpa % page_size;
        for (u64 i = 0; i < in_page && count < sizeof bytes; ++i) {
            bytes[count++] = mmu_->byte_at(gpa + i);
        }
    }
    u64 gpr[16];
    __builtin_memcpy(gpr, context_->gpr, sizeof gpr);
    gpr[abi::rax] = vmcb_->rax;
    gpr[abi::rsp] = vmcb_->rsp;
    x86::Decoded d = x86::decode({bytes, count}, gpr, vmcb_->rip);
    d.address += d.segment_prefix == 0x64 ? vmcb_->fs.base : d.segment_prefix == 0x65 ? vmcb_->gs.base : 0;
    return d;
}

bool Vcpu::move_control(abi::Reason reason) {
    using Kind = x86::Decoded::Kind;
    const x86::Decoded d = instruction();
    if (d.kind == Kind::mov_from_cr) {
        guest_gpr(d.gpr) = mmu_->read_control(d.cr);
    } else if (d.kind == Kind::mov_to_cr || d.kind == Kind::clts) {
        const bool clts = d.kind == Kind::clts;
        const u64 value = clts ? mmu_->read_control(0) & ~x86::cr0::ts : guest_gpr(d.gpr);
        if (!mmu_->write_control(clts ? 0 : d.cr, value)) {
            raise(general_protection, 0);
            return true;
        }
        write_translation_registers();
    } else {
        return false; // SMSW, LMSW: the policy's
    }
    abi::Exit instruction_exit{};
    instruction_exit.reason = static_cast<u16>(reason);
    return advance(instruction_exit, {abi::Action::advance, d.length});
}

bool Vcpu::page_fault(abi::Exit& exit) {
    const u64 address = vmcb_->exit_info_2;
    const u32 error = static_cast<u32>(vmcb_->exit_info_1);
    shadow::Walk walk{};
    mmu_->mmu().set_rights(vmcb_->rflags, 0);
    const shadow::Answer answer = mmu_->mmu().page_fault(address, shadow::Access::of(error), walk);
    if (answer == shadow::Answer::retry) {
        write_translation_registers();
        return redeliver(exit);
    }
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
    if (makes_double_fault(vmcb_->exit_int_info)) {
        raise(double_fault, 0);
        return true;
    }
    vmcb_->cr2 = address;
    raise(page_fault_vector, walk.error);
    return true;
}

bool Vcpu::translate(abi::Exit& exit) {
    if (mmu_ == nullptr) {
        return false;
    }
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    const auto mine = [&](abi::Intercept i) { return !asked(intercepts_, i); };
    switch (reason) {
    case exception:
        return exit.vector == page_fault_vector && page_fault(exit);
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
    case invlpg: {
        const x86::Decoded d = instruction();
        if (!mine(abi::Intercept::invlpg) || d.kind != x86::Decoded::Kind::invlpg) {
            return false;
        }
        mmu_->mmu().invalidate(d.address);
        write_translation_registers();
        return advance(exit, {abi::Action::advance, d.length});
    }
    case invpcid: { // whatever it names is among everything; its length is nRIP's
        if (!mine(abi::Intercept::invpcid) || exit.instruction_length == 0) {
            return false;
        }
        mmu_->mmu().drop_all();
        write_translation_registers();
        return advance(exit, {});
    }
    default:
        return false;
    }
}

} // namespace refhv::svm
