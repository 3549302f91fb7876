// SPDX-License-Identifier: MIT
// What the monitor does at each exit.
#include "refhv/core/state_rules.hpp"
#include "refhv/monitor/events.hpp"
#include "refhv/monitor/machine.hpp"
#include "refhv/monitor/mmio.hpp"
#include "refhv/monitor/msr.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

namespace {

void set_low(u64& reg, u64 value) { // as a 32-bit write does
    reg = value & 0xffff'ffff;
}

} // namespace

void Machine::answer_exit(const abi::Exit& exit) {
    using enum abi::Reason;
    switch (static_cast<abi::Reason>(exit.reason)) {
    case io_in:
    case io_out:
        return port(exit);
    case abi::Reason::cpuid:
        return this->cpuid(exit);
    case rdmsr:
        return read_msr(exit);
    case wrmsr:
        return write_msr(exit);
    case hlt:
        return halt(exit);
    case abi::Reason::xsetbv:
        return this->xsetbv(exit);
    case cr0_read:
    case cr0_write:
    case cr4_read:
    case cr4_write:
    case cr_other:
        return control_register(exit);
    case nested_violation:
    case nested_misconfig:
        return memory(exit);
    case triple_fault:
        ending_ = Ending{Ending::How::reset, 0, "triple fault"};
        return;
    case hypercall:
    case vm_instruction:
    case abi::Reason::monitor:
    case mwait: // none of these is offered
        return raise(events::invalid_opcode);
    case rdpmc:
        return raise(events::general_protection);
    default:
        return fail(std::string("the guest exited by ") +
                    client::name_of(static_cast<abi::Reason>(exit.reason)) +
                    ", which the monitor does not answer");
    }
}

void Machine::port(const abi::Exit& exit) {
    const PortAccess access = PortAccess::of(exit, vm_.vendor());
    if (access.string) {
        return string_port(access);
    }
    u64& rax = vm_.state.gpr[abi::rax];
    if (access.in) {
        const u64 value = board_.ports().read(access.port, access.size);
        if (access.size == 4) {
            set_low(rax, value);
        } else {
            rax = (rax & ~all_ones(access.size)) | value;
        }
    } else {
        board_.ports().write(access.port, access.size, rax & all_ones(access.size));
    }
    advance(exit, 1);
}

void Machine::cpuid(const abi::Exit& exit) {
    auto& gpr = vm_.state.gpr;
    const abi::CpuidLeaf leaf =
        cpu_.leaf(static_cast<u32>(gpr[abi::rax]), static_cast<u32>(gpr[abi::rcx]), vm_.state);
    gpr[abi::rax] = leaf.eax;
    gpr[abi::rbx] = leaf.ebx;
    gpr[abi::rcx] = leaf.ecx;
    gpr[abi::rdx] = leaf.edx;
    advance(exit, 2);
}

void Machine::read_msr(const abi::Exit& exit) {
    auto& gpr = vm_.state.gpr;
    const u32 index = static_cast<u32>(gpr[abi::rcx]);
    const auto boards = board_.read_msr(index);
    const std::optional<u64> value = !boards      ? monitor::read_msr(index, vm_.state, tsc_)
                                     : boards->ok ? std::optional(boards->value)
                                                  : std::nullopt;
    if (!value) {
        return raise(events::general_protection);
    }
    set_low(gpr[abi::rax], *value);
    gpr[abi::rdx] = *value >> 32;
    advance(exit, 2);
}

void Machine::write_msr(const abi::Exit& exit) {
    const auto& gpr = vm_.state.gpr;
    const u32 index = static_cast<u32>(gpr[abi::rcx]);
    const u64 value = (gpr[abi::rax] & 0xffff'ffff) | gpr[abi::rdx] << 32;
    const auto done = board_.write_msr(index, value);
    if (done ? !*done : !monitor::write_msr(index, value, vm_.state, cpu_)) {
        return raise(events::general_protection);
    }
    advance(exit, 2);
}

void Machine::xsetbv(const abi::Exit& exit) {
    const auto& gpr = vm_.state.gpr;
    const u64 value = (gpr[abi::rax] & 0xffff'ffff) | gpr[abi::rdx] << 32;
    if (static_cast<u32>(gpr[abi::rcx]) != 0 || !StateRules::is_xcr0(value) ||
        (value & ~cpu_.components()) != 0) {
        return raise(events::general_protection);
    }
    vm_.state.xcr0 = value;
    advance(exit, 3);
}

void Machine::halt(const abi::Exit& exit) {
    advance(exit, 1);
    if ((vm_.state.rflags & x86::rflags_bits::interrupt) == 0) {
        ending_ = Ending{Ending::How::halted, 0, {}};
        return;
    }
    asleep_ = true;
}

// No memory there: a device, or nothing, which reads as all ones and takes no write.
void Machine::memory(const abi::Exit& exit) {
    GuestView view(vm_, hello_);
    const MmioResult result = emulate_mmio(vm_, view, board_.memory(), exit.guest_physical);
    if (result.fault) {
        return page_fault(*result.fault);
    }
    if (!result.refused.empty()) {
        char at[32];
        std::snprintf(at, sizeof at, "%llx", static_cast<unsigned long long>(exit.guest_physical));
        fail(result.refused + " at " + at);
    }
}

} // namespace refhv::monitor
