// SPDX-License-Identifier: MIT
// Events into a guest on VMX: with an entry (SDM 3C 27.6), at a window, and through the virtual-APIC page.
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::vmx {

bool Vcpu::inject(const abi::Exit& exit) {
    if ((exit.interruption_info & Event::valid) == 0) {
        return false;
    }
    switch (x86::second_exception(read(Field::vectoring_info), exit.vector)) {
    case x86::Second::shutdown:
        return false;
    case x86::Second::double_fault:
        raise(x86::vector::double_fault, 0);
        return true;
    case x86::Second::delivered:
        break;
    }
    iret_unblocked_ = false; // the guest's IRET has faulted, and is not to be made again
    const u32 type = exit.interruption_info >> 8 & 7;
    if (exit.vector == x86::vector::page_fault) {
        x86::write_cr2(exit.qualification); // an intercepted #PF leaves CR2 to us (SDM 3C 28.2.1)
    }
    write(Field::entry_interruption_info, exit.interruption_info & (Event::valid | 0xfff));
    write(Field::entry_exception_error, own_fault_ ? fault_error_ : read(Field::exit_interruption_error));
    if (type == 4 || type == 5 || type == 6) {
        write(Field::entry_instruction_length, read(Field::exit_instruction_length));
    }
    // The trap behind an STI that was single-stepped exits with blocking by STI and nothing pending (SDM 3C
    // 28.3.4), which with RFLAGS.TF no entry takes (27.3.1.5). An entry that injects ends the blocking
    // anyway (27.7.1).
    if (read(Field::guest_pending_debug) == 0) {
        end_interrupt_shadow();
    }
    return true;
}

bool Vcpu::can_deliver(Event event) const {
    const Capabilities& caps = cpu_.capabilities();
    switch (event.delivery()) {
    case abi::Delivery::with_entry:
        return true;
    case abi::Delivery::when_open:
        return event.is_nmi() ? caps.pin.offers(pin::virtual_nmis) && caps.proc.offers(proc::nmi_window)
                              : caps.proc.offers(proc::interrupt_window);
    case abi::Delivery::virtually:
        return caps.proc2.offers(proc2::virtual_interrupt_delivery);
    default:
        return false;
    }
}

bool Vcpu::deliver(Event event, u32 error) {
    if (event.delivery() == abi::Delivery::virtually) {
        return request_virtually(event.vector());
    }
    write(Field::entry_exception_error, error);
    write(Field::entry_interruption_info, event.injection());
    return true;
}

// The entry evaluates RVI against the page's VPPR (SDM 3C 30.2.1).
bool Vcpu::request_virtually(u32 vector) {
    if (virtual_apic_ == nullptr) {
        return false;
    }
    constexpr u32 requests = 0x200, register_bytes = 16;
    auto* const virr = reinterpret_cast<u32*>(virtual_apic_ + requests + vector / 32 * register_bytes);
    *virr |= 1u << vector % 32;
    const u64 status = read(Field::guest_interrupt_status);
    if (vector > (status & 0xff)) {
        write(Field::guest_interrupt_status, (status & 0xff00) | vector);
    }
    return true;
}

u8* Vcpu::find_virtual_apic(const GuestMemory& memory) const {
    if ((read(Field::secondary_controls) & proc2::virtual_interrupt_delivery) == 0) {
        return nullptr;
    }
    const u64 at = read(Field::virtual_apic_address) - memory.hpa_base;
    return at % page_size == 0 && at < memory.pages * page_size ? memory.at(memory.gpa_base + at) : nullptr;
}

bool Vcpu::redeliver(const abi::Exit&) {
    const u32 info = static_cast<u32>(read(Field::vectoring_info));
    if ((info & Event::valid) != 0) {
        if ((info >> 8 & 7) == static_cast<u32>(Event::Type::nmi)) { // blocked by itself (SDM 3C 27.3.1.5)
            constexpr u64 by_nmi = 8;
            write(Field::guest_interruptibility, read(Field::guest_interruptibility) & ~by_nmi);
        }
        write(Field::entry_interruption_info,
              info & (Event::valid | 0xfff)); // SDM 3C 28.2.4: the same format
        write(Field::entry_exception_error, read(Field::vectoring_error));
        write(Field::entry_instruction_length, read(Field::exit_instruction_length));
    }
    return true;
}

} // namespace refhv::vmx
