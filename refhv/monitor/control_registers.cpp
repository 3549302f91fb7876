// SPDX-License-Identifier: MIT
// MOV with CR0 and CR4, CLTS and LMSW where the core hands them on: on VMX for bits that are the host's, on
// SVM where the platform's floor intercepts CR4 and the CPU does not say which register was meant (no decode
// assists).
#include "refhv/monitor/events.hpp"
#include "refhv/monitor/instruction.hpp"
#include "refhv/monitor/machine.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

void Machine::control_register(const abi::Exit& exit) {
    GuestView view(vm_, hello_);
    const auto i = Instruction::at_rip(vm_.state, view);
    if (!i) {
        return fail("an access to a control register whose instruction cannot be fetched");
    }
    abi::GuestState& s = vm_.state;
    const auto& [to, from] = std::tie(i->operands[0], i->operands[1]);
    bool done = false;
    if (i->info.mnemonic == ZYDIS_MNEMONIC_CLTS) {
        done = set_cr0(s.cr0 & ~u64{x86::cr0::ts});
    } else if (i->info.mnemonic == ZYDIS_MNEMONIC_LMSW && to.type == ZYDIS_OPERAND_TYPE_REGISTER) {
        const auto place = general_register(to.reg.value);
        const u64 low = s.gpr[place.value_or(RegisterPlace{}).number] & 0xf;
        done = set_cr0((s.cr0 & ~u64{0xe}) | low); // PE is set and never cleared
    } else if (i->info.mnemonic == ZYDIS_MNEMONIC_MOV) {
        const auto target = general_register(to.reg.value), source = general_register(from.reg.value);
        if (from.reg.value == ZYDIS_REGISTER_CR4 && target) {
            s.gpr[target->number] = i->is_64_bit() ? s.cr4 : s.cr4 & 0xffff'ffff;
            done = true;
        } else if (to.reg.value == ZYDIS_REGISTER_CR0 && source) {
            done = set_cr0(i->is_64_bit() ? s.gpr[source->number] : s.gpr[source->number] & 0xffff'ffff);
        } else if (to.reg.value == ZYDIS_REGISTER_CR4 && source) {
            done = set_cr4(i->is_64_bit() ? s.gpr[source->number] : s.gpr[source->number] & 0xffff'ffff);
        } else {
            return fail(std::string("no emulation of MOV with ") + ZydisRegisterGetString(from.reg.value));
        }
    } else {
        return fail(std::string("no emulation of ") + i->name() + " with a control register");
    }
    if (done) {
        advance(exit, i->info.length);
    } else if (!ending_) {
        raise(events::general_protection);
    }
}

// SDM 3A 2.5, 10.8.5: what a MOV to CR0 refuses, and what paging brings along.
bool Machine::set_cr0(u64 value) {
    using namespace x86;
    abi::GuestState& s = vm_.state;
    const bool pages = (value & cr0::pg) != 0, paged = (s.cr0 & cr0::pg) != 0;
    const bool to_long = (s.efer & efer::lme) != 0, wide_code = (s.segment[abi::cs].rights >> 13 & 1) != 0;
    if (value >> 32 != 0 || (pages && (value & cr0::pe) == 0) ||
        ((value & cr0::nw) != 0 && (value & cr0::cd) == 0) ||
        (pages && !paged && to_long && ((s.cr4 & cr4::pae) == 0 || wide_code)) ||
        (!pages && paged && wide_code && (s.efer & efer::lma) != 0)) {
        return false;
    }
    if (pages != paged) {
        if (!pages && !vm_.runs_unpaged()) {
            fail("the guest turns paging off, and this CPU has no unrestricted guests");
            return false;
        }
        s.efer = pages && to_long ? s.efer | efer::lma : s.efer & ~efer::lma;
    }
    s.cr0 = value | cr0::et;
    return true;
}

bool Machine::set_cr4(u64 value) {
    using namespace x86;
    abi::GuestState& s = vm_.state;
    constexpr u64 offered = 0x7ff | cr4::umip | cr4::fsgsbase | cr4::osxsave | cr4::smep | cr4::smap;
    const bool leaves_pae = (s.efer & efer::lma) != 0 && (value & cr4::pae) == 0;
    if ((value & ~offered) != 0 || leaves_pae) {
        return false;
    }
    s.cr4 = value;
    return true;
}

} // namespace refhv::monitor
