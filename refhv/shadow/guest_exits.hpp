// SPDX-License-Identifier: MIT
// Modes shadow and vtlb: the exits that belong to the guest's own paging (SDM 3C 33.3, "Memory
// virtualization"; APM 2 15.25 without nested paging). One for both vendors.
#pragma once

#include "refhv/shadow/guest_mmu.hpp"
#include "refhv/vcpu/intercepts.hpp"
#include "refhv/x86/decode.hpp"

#include <concepts>

namespace refhv::shadow {

// A #PF that has exited.
struct PageFault {
    u64 address;
    u32 error;
};

// What the answers need of a vCPU: that in which the vendors differ.
template <class V>
concept Shadowed = requires(V v, const V c, abi::Exit& exit, const abi::Exit& const_exit, u64 value,
                            const Reaction& reaction) {
    // The guest as it exited.
    { c.guest_rflags() } -> std::same_as<u64>;
    { c.guest_cpl() } -> std::same_as<unsigned>;
    { c.in_64_bit_mode() } -> std::same_as<bool>;
    { c.guest_gpr(unsigned{}) } -> std::same_as<u64>;
    { c.guest_cr2() } -> std::same_as<u64>;
    v.set_guest_gpr(unsigned{}, value);
    v.set_guest_cr2(value);
    // The event whose delivery the exit cut short: IDT-vectoring information, EXITINTINFO.
    { c.vectoring() } -> std::same_as<u64>;
    { c.page_fault_of(const_exit) } -> std::same_as<PageFault>;
    // The instruction that exited, its address linear; Kind::unknown: none that concerns translation.
    { v.instruction(const_exit) } -> std::same_as<x86::Decoded>;
    // An exception with an error code comes with the next entry.
    v.raise(u32{}, u32{});
    // A #PF of the guest's own is the policy's, with the error code that the guest's tables give it.
    v.hand_on_page_fault(exit, u32{});
    // What the MMU wants the CPU to hold: all of it; CR3 and the flush that may be due.
    v.write_translation_registers();
    v.forget_if_needed();
    // The guest's next instruction by itself. ends_instruction: true: this exit was its end, and no more.
    v.begin_instruction();
    v.end_instruction();
    { c.is_stepping() } -> std::same_as<bool>;
    { v.ends_instruction(const_exit) } -> std::same_as<bool>;
    { v.advance(const_exit, reaction) } -> std::same_as<bool>;
    { v.redeliver(const_exit) } -> std::same_as<bool>;
};

template <class V>
class GuestExits {
  public:
    // `intercepts`, `exceptions`: what the client wants to see itself.
    GuestExits(V& vcpu, GuestMmu& mmu, u64 intercepts, u32 exceptions)
        : vcpu_(vcpu), mmu_(mmu), intercepts_(intercepts), exceptions_(exceptions) {
        static_assert(Shadowed<V>);
    }

    // false: the policy's; its reason may have become another.
    [[nodiscard]] bool answer(abi::Exit& exit) {
        using enum abi::Reason;
        const auto reason = static_cast<abi::Reason>(exit.reason);
        if (reason == exception && exit.vector == x86::vector::page_fault) {
            return page_fault(exit);
        }
        if (vcpu_.is_stepping() && reason != external_interrupt && reason != nmi &&
            vcpu_.ends_instruction(exit)) {
            return true;
        }
        switch (reason) {
        case cr0_read:
            return instruction(exit, abi::Intercept::cr0_read);
        case cr0_write:
            return instruction(exit, abi::Intercept::cr0_write);
        case cr3_read:
            return instruction(exit, abi::Intercept::cr3_read);
        case cr3_write:
            return instruction(exit, abi::Intercept::cr3_write);
        case cr4_read:
            return instruction(exit, abi::Intercept::cr4_read);
        case cr4_write:
            return instruction(exit, abi::Intercept::cr4_write);
        case invlpg:
            return instruction(exit, abi::Intercept::invlpg);
        case invpcid:
            return instruction(exit, abi::Intercept::invpcid);
        case cr_other: // CLTS on VMX
            return execute(exit);
        case rdmsr:
        case wrmsr:
            return static_cast<u32>(vcpu_.guest_gpr(abi::rcx)) == x86::msr::efer &&
                   move_efer(exit, reason == wrmsr);
        default:
            return false;
        }
    }

  private:
    [[nodiscard]] bool page_fault(abi::Exit& exit) {
        const auto [address, error] = vcpu_.page_fault_of(exit);
        const Access access = fault::access_of(error);
        Walk walk;
        mmu_.set_rights(vcpu_.guest_rflags(), vcpu_.guest_cpl(), access);
        const Answer answer = mmu_.mmu().page_fault(address, access, walk);
        if (answer == Answer::retry) {
            if (mmu_.mmu().for_one_instruction()) {
                vcpu_.begin_instruction();
            }
            vcpu_.forget_if_needed();
            return vcpu_.redeliver(exit);
        }
        vcpu_.end_instruction();
        if (answer == Answer::outside) {
            exit.reason = static_cast<u16>(abi::Reason::nested_violation);
            exit.guest_physical = walk.gpa;
            return false;
        }
        if ((exceptions_ & x86::vector_bit(x86::vector::page_fault)) != 0) {
            vcpu_.hand_on_page_fault(exit, walk.error);
            return false;
        }
        if (!raise_page_fault(address, walk.error)) {
            exit.reason = static_cast<u16>(abi::Reason::triple_fault);
            return false;
        }
        return true;
    }

    // The guest's #PF, or the #DF that it becomes; CR2 has the address either way. false: it was met in the
    // delivery of a #DF, and the guest shuts down (SDM 3A 6.15, interrupt 8).
    [[nodiscard]] bool raise_page_fault(u64 address, u32 error) {
        vcpu_.set_guest_cr2(address);
        switch (x86::second_exception(vcpu_.vectoring(), x86::vector::page_fault)) {
        case x86::Second::shutdown:
            return false;
        case x86::Second::double_fault:
            vcpu_.raise(x86::vector::double_fault, 0);
            return true;
        case x86::Second::delivered:
            break;
        }
        vcpu_.raise(x86::vector::page_fault, error);
        return true;
    }

    [[nodiscard]] bool instruction(const abi::Exit& exit, abi::Intercept i) {
        return !asks(intercepts_, i) && execute(exit);
    }

    [[nodiscard]] bool execute(const abi::Exit& exit) {
        using Kind = x86::Decoded::Kind;
        const x86::Decoded d = vcpu_.instruction(exit);
        switch (d.kind) {
        case Kind::mov_to_cr:
            return d.cr == 3 ? load_cr3(exit, d) : is_ours(d.cr) && write_control(exit, d);
        case Kind::mov_from_cr:
            if (d.cr != 2 && d.cr != 3 && !is_ours(d.cr)) { // CR2: to QEMU 10 every MOV is CR0's
                return false;
            }
            vcpu_.set_guest_gpr(d.gpr, d.cr == 2 ? vcpu_.guest_cr2() : mmu_.read_control(d.cr));
            return step_over(exit, d.length);
        case Kind::clts: {
            const u64 value = mmu_.read_control(0) & ~x86::cr0::ts;
            return finish(mmu_.write_control(0, value, vcpu_.in_64_bit_mode()), exit, d.length);
        }
        case Kind::invlpg:
            mmu_.mmu().invalidate(d.address);
            vcpu_.forget_if_needed();
            return step_over(exit, d.length);
        case Kind::invpcid:
            return invalidate_pcid(exit, d);
        default:
            return false; // SMSW, LMSW
        }
    }

    [[nodiscard]] static constexpr bool is_ours(unsigned cr) { return cr == 0 || cr == 4; }

    [[nodiscard]] bool write_control(const abi::Exit& exit, const x86::Decoded& d) {
        const u64 value = vcpu_.guest_gpr(d.gpr);
        return finish(mmu_.write_control(d.cr, value, vcpu_.in_64_bit_mode()), exit, d.length);
    }

    // The one that comes most often: nothing but the root is another.
    [[nodiscard]] bool load_cr3(const abi::Exit& exit, const x86::Decoded& d) {
        const Written written = mmu_.load_cr3(vcpu_.guest_gpr(d.gpr));
        if (written != Written::done) {
            return finish(written, exit, d.length);
        }
        vcpu_.forget_if_needed();
        return step_over(exit, d.length);
    }

    [[nodiscard]] bool invalidate_pcid(const abi::Exit& exit, const x86::Decoded& d) {
        u64 descriptor[2] = {};
        Walk walk;
        mmu_.set_rights(vcpu_.guest_rflags(), vcpu_.guest_cpl(), {});
        const u64 got =
            mmu_.read(d.address, {}, {reinterpret_cast<u8*>(descriptor), sizeof descriptor}, walk);
        if (got < sizeof descriptor) {
            return raise_page_fault(d.address + got, walk.error);
        }
        const u64 given = vcpu_.guest_gpr(d.gpr);
        const u64 type = vcpu_.in_64_bit_mode() ? given : static_cast<u32>(given);
        return finish(mmu_.invalidate_pcid(type, descriptor[0], descriptor[1]), exit, d.length);
    }

    [[nodiscard]] bool move_efer(const abi::Exit& exit, bool is_write) {
        constexpr u8 length = 2; // of RDMSR and WRMSR
        if (is_write) {
            const u64 value = static_cast<u32>(vcpu_.guest_gpr(abi::rax)) | vcpu_.guest_gpr(abi::rdx) << 32;
            return finish(mmu_.write_efer(value), exit, length);
        }
        vcpu_.set_guest_gpr(abi::rax, static_cast<u32>(mmu_.guest().efer));
        vcpu_.set_guest_gpr(abi::rdx, mmu_.guest().efer >> 32);
        return step_over(exit, length);
    }

    // After a guest's instruction that belongs to its paging. false: the policy's.
    [[nodiscard]] bool finish(Written written, const abi::Exit& exit, u8 length) {
        if (written == Written::not_ours) {
            return false;
        }
        if (written == Written::fault) {
            vcpu_.raise(x86::vector::general_protection, 0);
            return true;
        }
        vcpu_.write_translation_registers();
        return step_over(exit, length);
    }

    [[nodiscard]] bool step_over(const abi::Exit& exit, u8 length) {
        return vcpu_.advance(exit, {abi::Action::advance, length});
    }

    V& vcpu_;
    GuestMmu& mmu_;
    u64 intercepts_;
    u32 exceptions_;
};

} // namespace refhv::shadow
