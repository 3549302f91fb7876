// SPDX-License-Identifier: MIT
// What the monitor does at each exit.
#include "refhv/monitor/machine.hpp"
#include "refhv/monitor/mmio.hpp"
#include "refhv/monitor/msr.hpp"
#include "refhv/monitor/port_access.hpp"
#include "refhv/core/state_rules.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

namespace {

constexpr u32 exception = 3u << 8, with_error = 1u << 11; // abi::PolicyEntry::event
constexpr u32 invalid_opcode = 6 | exception, general_protection = 13 | exception | with_error;

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
    case cr0_write:
    case cr_other:
        return write_cr0(exit);
    case cr4_write:
        return write_cr4(exit);
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
        return raise(invalid_opcode);
    case rdpmc:
        return raise(general_protection);
    default:
        return fail(std::string("the guest exited by ") + client::name_of(static_cast<abi::Reason>(exit.reason)) +
                    ", which the monitor does not answer");
    }
}

void Machine::port(const abi::Exit& exit) {
    const PortAccess access = PortAccess::of(exit, vm_.vendor());
    if (access.string) {
        return fail("INS and OUTS are not emulated");
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
    const std::optional<u64> value = !boards    ? monitor::read_msr(index, vm_.state, tsc_)
                                     : boards->ok ? std::optional(boards->value)
                                                  : std::nullopt;
    if (!value) {
        return raise(general_protection);
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
        return raise(general_protection);
    }
    advance(exit, 2);
}

void Machine::xsetbv(const abi::Exit& exit) {
    const auto& gpr = vm_.state.gpr;
    const u64 value = (gpr[abi::rax] & 0xffff'ffff) | gpr[abi::rdx] << 32;
    if (static_cast<u32>(gpr[abi::rcx]) != 0 || !StateRules::is_xcr0(value) || (value & ~cpu_.components()) != 0) {
        return raise(general_protection);
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

// VMX only: MOV to CR0, CLTS and LMSW that touch a bit of the host's (SDM 3C table 28-3). What the guest may change is
// loaded, with what paging brings along (SDM 3A 10.8.5).
void Machine::write_cr0(const abi::Exit& exit) {
    using namespace x86;
    constexpr unsigned mov = 0, clts = 2, lmsw = 3;
    const u64 q = exit.qualification;
    const unsigned type = q >> 4 & 3;
    if (vm_.vendor() != abi::Vendor::vmx || (q & 15) != 0) {
        return fail("a control register that the monitor does not answer for");
    }
    abi::GuestState& s = vm_.state;
    u64 value = s.cr0;
    if (type == mov) {
        value = s.gpr[q >> 8 & 15];
    } else if (type == clts) {
        value &= ~cr0::ts;
    } else if (type == lmsw) {
        value = (value & ~u64{0xe}) | (q >> 16 & 0xf);
    }
    const bool pages = (value & cr0::pg) != 0, paged = (s.cr0 & cr0::pg) != 0;
    const bool to_long = (s.efer & efer::lme) != 0;
    if (value >> 32 != 0 || (pages && (value & cr0::pe) == 0) || ((value & cr0::nw) != 0 && (value & cr0::cd) == 0) ||
        (pages && !paged && to_long && (s.cr4 & cr4::pae) == 0)) {
        return raise(general_protection);
    }
    if (pages != paged) {
        if (!vm_.runs_unpaged() && !pages) {
            return fail("the guest turns paging off, and this CPU has no unrestricted guests");
        }
        s.efer = pages && to_long ? s.efer | efer::lma : s.efer & ~efer::lma;
    }
    s.cr0 = value | cr0::et;
    advance(exit, 3);
}

void Machine::write_cr4(const abi::Exit& exit) {
    using namespace x86;
    const u64 q = exit.qualification;
    if (vm_.vendor() != abi::Vendor::vmx || (q >> 4 & 3) != 0) {
        return fail("a control register that the monitor does not answer for");
    }
    abi::GuestState& s = vm_.state;
    const u64 value = s.gpr[q >> 8 & 15];
    constexpr u64 offered = 0x7ff | cr4::umip | cr4::fsgsbase | cr4::osxsave | cr4::smep | cr4::smap;
    const bool leaves_pae = (s.efer & efer::lma) != 0 && (value & cr4::pae) == 0;
    if ((value & ~offered) != 0 || leaves_pae) {
        return raise(general_protection);
    }
    s.cr4 = value;
    advance(exit, 3);
}

// No memory there: a device, or nothing, which reads as all ones and takes no write.
void Machine::memory(const abi::Exit& exit) {
    GuestView view(vm_, hello_);
    const MmioResult result = emulate_mmio(vm_, view, board_.memory(), exit.guest_physical);
    if (result.fault) {
        vm_.state.cr2 = result.fault->address;
        return fail("a page fault of an instruction that accesses a device");
    }
    if (!result.refused.empty()) {
        char at[32];
        std::snprintf(at, sizeof at, "%llx", static_cast<unsigned long long>(exit.guest_physical));
        fail(result.refused + " at " + at);
    }
}

} // namespace refhv::monitor
