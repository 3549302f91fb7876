// SPDX-License-Identifier: MIT
// VM exits in neutral terms (SDM 3D appendix C; qualifications: SDM 3C 28.2).
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

abi::Reason plain_reason(u32 basic) {
    using enum abi::Reason;
    switch (static_cast<BasicExit>(basic)) {
    case BasicExit::cpuid:
        return cpuid;
    case BasicExit::hlt:
        return hlt;
    case BasicExit::invd:
        return invd;
    case BasicExit::invlpg:
        return invlpg;
    case BasicExit::rdpmc:
        return rdpmc;
    case BasicExit::rdtsc:
        return rdtsc;
    case BasicExit::rdtscp:
        return rdtscp;
    case BasicExit::vmcall:
        return hypercall;
    case BasicExit::rdmsr:
        return rdmsr;
    case BasicExit::wrmsr:
        return wrmsr;
    case BasicExit::mwait:
        return mwait;
    case BasicExit::monitor:
        return monitor;
    case BasicExit::pause:
        return pause;
    case BasicExit::gdtr_idtr:
        return gdtr_idtr;
    case BasicExit::ldtr_tr:
        return ldtr_tr;
    case BasicExit::wbinvd:
        return wbinvd;
    case BasicExit::xsetbv:
        return xsetbv;
    case BasicExit::invpcid:
        return invpcid;
    case BasicExit::rdrand:
        return rdrand;
    case BasicExit::rdseed:
        return rdseed;
    default:
        return none;
    }
}

namespace {

// SDM 3C table 28-3: 3:0 register, 5:4 access type.
abi::Reason cr_access(u64 qualification) {
    using enum abi::Reason;
    const bool is_write = (qualification >> 4 & 3) == 0;
    if ((qualification >> 4 & 3) > 1) {
        return cr_other; // CLTS, LMSW
    }
    switch (qualification & 15) {
    case 0:
        return is_write ? cr0_write : cr0_read;
    case 3:
        return is_write ? cr3_write : cr3_read;
    case 4:
        return is_write ? cr4_write : cr4_read;
    case 8:
        return is_write ? cr8_write : cr8_read;
    default:
        return cr_other;
    }
}

abi::Reason reason_of(u32 basic, u64 qualification, u32 interruption_info) {
    using enum abi::Reason;
    if (const abi::Reason plain = plain_reason(basic); plain != none) {
        return plain;
    }
    switch (static_cast<BasicExit>(basic)) {
    case BasicExit::exception_or_nmi:
        return (interruption_info >> 8 & 7) == 2 ? nmi : exception;
    case BasicExit::external_interrupt:
        return external_interrupt;
    case BasicExit::triple_fault:
        return triple_fault;
    case BasicExit::init:
        return init;
    case BasicExit::sipi:
        return sipi;
    case BasicExit::io_smi:
    case BasicExit::other_smi:
        return smi;
    case BasicExit::interrupt_window:
        return interrupt_window;
    case BasicExit::nmi_window:
        return nmi_window;
    case BasicExit::task_switch:
        return task_switch;
    case BasicExit::cr_access:
        return cr_access(qualification);
    case BasicExit::mov_dr:
        return (qualification >> 4 & 1) != 0 ? dr_read : dr_write; // SDM 3C table 28-4
    case BasicExit::io:
        return (qualification >> 3 & 1) != 0 ? io_in : io_out; // SDM 3C table 28-5
    case BasicExit::entry_guest_state:
    case BasicExit::entry_msr_load:
    case BasicExit::entry_machine_check:
        return entry_failure;
    case BasicExit::monitor_trap:
        return monitor_trap;
    case BasicExit::tpr_below_threshold:
        return tpr_threshold;
    case BasicExit::apic_access:
        return apic_access;
    case BasicExit::apic_write:
        return apic_write;
    case BasicExit::virtualized_eoi:
        return virtualized_eoi;
    case BasicExit::ept_violation:
        return nested_violation;
    case BasicExit::ept_misconfig:
        return nested_misconfig;
    case BasicExit::preemption_timer:
        return preemption_timer;
    case BasicExit::pml_full:
        return page_modification_log_full;
    case BasicExit::xsaves:
    case BasicExit::xrstors:
        return xsaves;
    default:
        // VMCLEAR to VMXON are 19 to 27; INVEPT, INVVPID and VMFUNC stand apart.
        return (basic >= 19 && basic <= 27) || basic == 50 || basic == 53 || basic == 59 ? vm_instruction
                                                                                         : other;
    }
}

} // namespace

void decode_exit(abi::Exit& exit) {
    const u64 raw = read(Field::exit_reason);
    const u32 basic = raw & 0xffff;
    exit.raw_reason = raw;
    exit.qualification = read(Field::exit_qualification);
    exit.vector = 0;
    u32 interruption = 0;
    if (basic == static_cast<u32>(BasicExit::exception_or_nmi)) {
        interruption = static_cast<u32>(read(Field::exit_interruption_info));
        exit.vector = interruption & 0xff;
    } else if (basic == static_cast<u32>(BasicExit::ept_violation) ||
               basic == static_cast<u32>(BasicExit::ept_misconfig)) {
        exit.guest_physical = read(Field::guest_physical_address);
    }
    exit.interruption_info = interruption;
    exit.reason = static_cast<u16>(reason_of(basic, exit.qualification, interruption));
}

} // namespace refhv::vmx
