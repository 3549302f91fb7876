// SPDX-License-Identifier: MIT
// Exceptions and interrupts of the image itself.
#include "refhv/boot/cpu.hpp"
#include "refhv/boot/fadt.hpp"
#include "refhv/boot/image.hpp"

#include "refhv/contract/abi.hpp"
#include "refhv/contract/frame.hpp"

namespace refhv::boot {

namespace {

// An instruction that may fault, and where to go on if it does; made by boot/platform.cpp.
struct Fixup {
    u64 at, resume;
};
extern "C" const Fixup fixups_begin[];
extern "C" const Fixup fixups_end[];

constexpr u8 nmi = 2, general_protection = 13, first_external = 32;

bool fix_up(InterruptFrame& frame) {
    for (const Fixup* f = fixups_begin; f != fixups_end; ++f) {
        if (f->at == frame.rip) {
            frame.rip = f->resume;
            return true;
        }
    }
    return false;
}

// By what ACPI names, then the reset control register of PCI chipsets, the keyboard controller, and a triple
// fault.
[[noreturn]] void reset() {
    const ResetRegister by_acpi = find_reset_register(
        image.acpi_root, [](u64 physical) { return static_cast<const u8*>(platform::to_virtual(physical)); });
    if (by_acpi.port != 0) {
        x86::outb(by_acpi.port, by_acpi.value);
    }
    constexpr u16 reset_control = 0xcf9, keyboard_command = 0x64;
    x86::outb(reset_control, 0x02);
    x86::outb(reset_control, 0x06);
    x86::outb(keyboard_command, 0xfe);
    x86::lidt({});
    for (;;) {
        asm volatile("int3");
    }
}

} // namespace

extern "C" void image_interrupt(InterruptFrame* frame) {
    Cpu& cpu = this_cpu();
    if (frame->vector == nmi && cpu.in_run != 0) {
        ++cpu.nmis;
        return;
    }
    if (frame->vector >= first_external) {
        ++cpu.served;
        if (frame->vector < LocalApic::first_own_vector) {
            cpu.arrived[frame->vector / 64] |= u64{1} << (frame->vector % 64);
        }
        if (frame->vector != LocalApic::spurious_vector) {
            image.apic.end_of_interrupt();
        }
        return;
    }
    if (frame->vector == general_protection && fix_up(*frame)) {
        return;
    }
    crash(frame->vector == nmi ? "NMI in the core" : "exception in the core", *frame);
}

void crash(const char* where, const InterruptFrame& frame) {
    struct {
        abi::ReplyHeader header;
        abi::CrashReply body;
    } reply{};
    static_assert(sizeof reply == sizeof(abi::ReplyHeader) + sizeof(abi::CrashReply));
    reply.header = {static_cast<u16>(abi::Op::crash), static_cast<u16>(abi::Outcome::crashed),
                    sizeof reply.body};
    reply.body = {.vector = frame.vector,
                  .error = frame.error,
                  .rip = frame.rip,
                  .rsp = frame.rsp,
                  .cr2 = x86::read_cr2(),
                  .cs = frame.cs,
                  .rflags = frame.rflags,
                  .where = {}};
    for (usize i = 0; i + 1 < sizeof reply.body.where && where[i] != 0; ++i) {
        reply.body.where[i] = where[i];
    }
    send_reply(0, {reinterpret_cast<const u8*>(&reply), sizeof reply});
    power_off();
}

void power_off() {
    x86::cli();
    image.console.drain();
    x86::outb(0xf4, 0);
    for (const char c : {'S', 'h', 'u', 't', 'd', 'o', 'w', 'n'}) {
        x86::outb(0x8900, static_cast<u8>(c));
    }
    reset();
}

} // namespace refhv::boot
