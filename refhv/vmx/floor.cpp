// SPDX-License-Identifier: MIT
// The safety floor: laid at begin, and the exits that are there for its sake.
#include "refhv/vmx/floor.hpp"

#include "refhv/vcpu/intercepts.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {
constexpr u64 vtpr = 0x80; // offset in the virtual-APIC page (SDM 3C 30.1.1)
} // namespace

void Vcpu::lay_floor() {
    const auto lay = [](Field f, const Owned& owned) {
        if ((owned.set | owned.clear) != 0) {
            write(f, owned.over(read(f)));
        }
    };
    lay(Field::pin_based_controls, floor_.pin);
    lay(Field::proc_based_controls, floor_.proc);
    lay(Field::secondary_controls, floor_.secondary);
    lay(Field::exit_controls, floor_.exit);
    lay(Field::entry_controls, floor_.entry);
    lay(Field::exception_bitmap, floor_.exceptions);
    lay(Field::cr0_mask, floor_.cr0_mask);
    lay(Field::cr4_mask, floor_.cr4_mask);
    lay(Field::guest_cr4, {x86::read_cr4() & floor_.host_cr4, floor_.denied_cr4});
    // The guest's CR8 is never the CPU's: 15 there would mask the host's interrupts, its deadline among them.
    const u64 controls = read(Field::proc_based_controls);
    if ((controls & proc::tpr_shadow) == 0) {
        write(Field::proc_based_controls, controls | proc::cr8_load | proc::cr8_store);
    }
}

// The TPR shadow that is the core's own; null: the client has one of its own, or the CPU none.
u8* Vcpu::own_tpr() const {
    const bool own = virtual_apic_page_ != 0 && (read(Field::proc_based_controls) & proc::tpr_shadow) != 0 &&
                     read(Field::virtual_apic_address) == virtual_apic_page_;
    return own ? static_cast<u8*>(platform::to_virtual(virtual_apic_page_)) + vtpr : nullptr;
}

void Vcpu::set_guest_cr8(u64 value) {
    registers_.cr8 = value;
    if (virtual_apic_page_ != 0) {
        static_cast<u8*>(platform::to_virtual(virtual_apic_page_))[vtpr] = static_cast<u8>(value << 4);
    }
}

u64 Vcpu::guest_cr8() const {
    const u8* const tpr = own_tpr();
    return tpr != nullptr ? u64{*tpr} >> 4 : registers_.cr8;
}

// Exits that nobody but the host asked for. true: answered.
bool Vcpu::answers_for_host(const abi::Exit& exit) {
    using enum abi::Reason;
    switch (static_cast<abi::Reason>(exit.reason)) {
    case exception:
        return own_exception(exit);
    case cr0_write:
        return !asks(intercepts_, abi::Intercept::cr0_write) && own_cr0_write(exit);
    case cr4_write:
        return !asks(intercepts_, abi::Intercept::cr4_write) && own_cr4_write(exit);
    case cr8_read:
    case cr8_write:
        return own_cr8(exit);
    case tpr_threshold: // what waits for the guest's TPR is offered anew
        if (awaited_tpr_ != 0) {
            await_tpr(0);
            return true;
        }
        return false;
    case init: // a signal to this CPU, not to the guest (SDM 3C 26.2); so is an SMI
    case smi:
        return redeliver(exit);
    default:
        return false;
    }
}

bool Vcpu::own_exception(const abi::Exit& exit) {
    const u64 own = floor_.exceptions.set;
    if ((own >> exit.vector & 1) == 0) {
        return false;
    }
    if (exit.vector == x86::vector::machine_check) {
        platform::machine_check();
        return redeliver(exit);
    }
    if (is_stepping() || (exceptions_ >> exit.vector & 1) != 0) {
        return false;
    }
    if (exit.vector == x86::vector::debug) { // the exit has left DR6, DR7.GD and DEBUGCTL.LBR alone (28.2.1)
        constexpr u64 causes = 0xf | 1u << 13 | 1u << 14, transaction = 1u << 16, general_detect = 1u << 13;
        const u64 qualification = exit.qualification;
        x86::write_dr6(((x86::read_dr6() & ~u64{0xf}) | transaction | (qualification & causes)) &
                       ~(qualification & transaction));
        write(Field::guest_dr7, read(Field::guest_dr7) & ~general_detect);
        constexpr u64 lbr_and_btf = 3; // cleared with every #DB (SDM 3B 17.4.1, 17.4.3)
        write(Field::guest_debugctl, read(Field::guest_debugctl) & ~lbr_and_btf);
    }
    return inject(exit);
}

void Vcpu::step_over() {
    move_rip(read(Field::exit_instruction_length));
}

void Vcpu::raise_general_protection() {
    raise(x86::vector::general_protection, 0);
}

// Of MOV to CR0 and CR4, which takes 32 bits outside 64-bit mode (SDM 2B MOV).
u64 Vcpu::control_operand(const abi::Exit& exit) const {
    constexpr u64 code_is_64 = 1u << 13; // CS access rights: L
    const u64 value = guest_gpr(exit.qualification >> 8 & 15);
    const bool code64 = (read(Field::guest_efer) & x86::efer::lma) != 0 &&
                        (read(segment_field(Field::guest_es_rights, abi::cs)) & code_is_64) != 0;
    return code64 ? value : static_cast<u32>(value);
}

// The guest has CR0.CD and CR0.NW in the shadow alone. Whatever else is the host's of CR0 is the policy's
// affair.
bool Vcpu::own_cr0_write(const abi::Exit& exit) {
    constexpr u64 cache = x86::cr0::cd | x86::cr0::nw, paging = x86::cr0::pe | x86::cr0::pg;
    const u64 value = control_operand(exit), real = read(Field::guest_cr0);
    const u64 mask = read(Field::cr0_mask), shadow = read(Field::cr0_shadow);
    if (mmu_ != nullptr || floor_.cr0_mask.set == 0 || ((value ^ shadow) & mask & ~cache) != 0 ||
        ((value ^ real) & paging) != 0) {
        return false;
    }
    if (value >> 32 != 0 || (value & cache) == x86::cr0::nw) {
        raise_general_protection();
        return true;
    }
    write(Field::guest_cr0, (real & mask) | (value & ~mask));
    write(Field::cr0_shadow, value);
    step_over();
    return true;
}

// CR4 bits that the guest may not have are #GP, as reserved ones are; MCE it has in the shadow alone.
bool Vcpu::own_cr4_write(const abi::Exit& exit) {
    using namespace x86;
    constexpr u64 translation = cr4::pae | cr4::la57 | cr4::pcide | cr4::vmxe | cr4::smxe;
    const u64 value = control_operand(exit), real = read(Field::guest_cr4);
    const u64 mask = read(Field::cr4_mask), shadow = read(Field::cr4_shadow);
    const u64 own = floor_.denied_cr4 | floor_.host_cr4;
    if (mmu_ != nullptr || own == 0 || ((value ^ shadow) & mask & ~own) != 0) {
        return false;
    }
    if ((value & (floor_.denied_cr4 | ~cpu_.capabilities().cr4_fixed1)) != 0) {
        raise_general_protection();
        return true;
    }
    if (((value ^ shadow) & translation) != 0) {
        return false;
    }
    write(Field::guest_cr4, (real & mask) | (value & ~mask));
    write(Field::cr4_shadow, value);
    if (((value ^ shadow) & ~u64{cr4::mce}) != 0) {
        drop_tagged(); // MOV to CR4 does, where such a bit changes (SDM 3A 4.10.4.1)
    }
    step_over();
    return true;
}

// On CPUs without a TPR shadow.
bool Vcpu::own_cr8(const abi::Exit& exit) {
    const bool is_write = exit.reason == static_cast<u16>(abi::Reason::cr8_write);
    if (asks(intercepts_, is_write ? abi::Intercept::cr8_write : abi::Intercept::cr8_read)) {
        return false;
    }
    const unsigned gpr = exit.qualification >> 8 & 15;
    if (!is_write) {
        set_guest_gpr(gpr, guest_cr8());
    } else if (const u64 value = guest_gpr(gpr); value <= 15) {
        set_guest_cr8(value);
    } else {
        raise_general_protection();
        return true;
    }
    step_over();
    return true;
}

} // namespace refhv::vmx
