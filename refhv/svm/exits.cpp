// SPDX-License-Identifier: MIT
// #VMEXIT in neutral terms (APM 2 15.6 to 15.14, appendix C).
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

abi::Reason plain_reason(u32 code) {
    using enum abi::Reason;
    if (code >= 0x40 && code < 0x60) {
        return exception;
    }
    switch (static_cast<ExitCode>(code)) {
    case ExitCode::cpuid:
        return cpuid;
    case ExitCode::hlt:
        return hlt;
    case ExitCode::invd:
        return invd;
    case ExitCode::wbinvd:
        return wbinvd;
    case ExitCode::invlpg:
        return invlpg;
    case ExitCode::rdpmc:
        return rdpmc;
    case ExitCode::rdtsc:
        return rdtsc;
    case ExitCode::rdtscp:
        return rdtscp;
    case ExitCode::vmmcall:
        return hypercall;
    case ExitCode::mwait:
    case ExitCode::mwait_armed:
        return mwait;
    case ExitCode::monitor:
        return monitor;
    case ExitCode::pause:
        return pause;
    case ExitCode::xsetbv:
        return xsetbv;
    case ExitCode::idtr_read:
    case ExitCode::gdtr_read:
    case ExitCode::idtr_write:
    case ExitCode::gdtr_write:
        return gdtr_idtr;
    case ExitCode::ldtr_read:
    case ExitCode::tr_read:
    case ExitCode::ldtr_write:
    case ExitCode::tr_write:
        return ldtr_tr;
    default:
        break;
    }
    switch (code) {
    case 0x00:
        return cr0_read;
    case 0x03:
        return cr3_read;
    case 0x04:
        return cr4_read;
    case 0x08:
        return cr8_read;
    case 0x10:
        return cr0_write;
    case 0x13:
        return cr3_write;
    case 0x14:
        return cr4_write;
    case 0x18:
        return cr8_write;
    default:
        break;
    }
    if (code >= 0x20 && code < 0x30) {
        return dr_read;
    }
    return code >= 0x30 && code < 0x40 ? dr_write : none;
}

namespace {

abi::Reason reason_of(const Vmcb& vmcb) {
    using enum abi::Reason;
    const u64 code = vmcb.exit_code;
    // VMEXIT_INVALID is -1 (APM 2 appendix C); QEMU 7.2 stores 32 bits of it. Both are a refusal, the raw
    // code tells.
    if (static_cast<u32>(code) == ~u32{0}) {
        return entry_failure;
    }
    if (code < SVM_EXIT_CODES) {
        if (const abi::Reason plain = plain_reason(static_cast<u32>(code)); plain != none) {
            return plain;
        }
    }
    switch (static_cast<ExitCode>(code)) {
    case ExitCode::intr:
        return external_interrupt;
    case ExitCode::nmi:
        return nmi;
    case ExitCode::smi:
        return smi;
    case ExitCode::init:
        return init;
    case ExitCode::vintr:
        return interrupt_window;
    case ExitCode::cr0_selective_write:
        return cr0_write;
    case ExitCode::pushf:
    case ExitCode::popf:
        return pushf_popf;
    case ExitCode::iret:
        return iret;
    case ExitCode::int_n:
        return int_n;
    case ExitCode::invpcid:
        return invpcid;
    case ExitCode::ioio:
        return (vmcb.exit_info_1 & 1) != 0 ? io_in : io_out;
    case ExitCode::msr:
        return vmcb.exit_info_1 != 0 ? wrmsr : rdmsr;
    case ExitCode::task_switch:
        return task_switch;
    case ExitCode::shutdown:
        return triple_fault;
    case ExitCode::vmrun:
    case ExitCode::vmload:
    case ExitCode::vmsave:
    case ExitCode::stgi:
    case ExitCode::clgi:
    case ExitCode::skinit:
    case ExitCode::invlpga:
        return vm_instruction;
    case ExitCode::avic_incomplete_ipi:
        return avic_incomplete_ipi;
    case ExitCode::avic_noaccel:
        return avic_unaccelerated;
    case ExitCode::npf:
        return (vmcb.exit_info_1 >> 3 & 1) != 0 ? nested_misconfig : nested_violation;
    default:
        // CR1, CR2 and the other numbers that MOV CR can name.
        return code < 0x20 ? cr_other : other;
    }
}

} // namespace

void decode_exit(const Vmcb& vmcb, bool nrip_save, abi::Exit& exit) {
    exit.reason = static_cast<u16>(reason_of(vmcb));
    exit.raw_reason = vmcb.exit_code;
    exit.qualification = vmcb.exit_info_1;
    exit.guest_physical = vmcb.exit_info_2; // of a nested page fault
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    exit.vector = exception ? static_cast<u16>(vmcb.exit_code - static_cast<u64>(ExitCode::exception_0)) : 0;
    const bool io = vmcb.exit_code == static_cast<u64>(ExitCode::ioio);
    exit.next_rip = nrip_save ? vmcb.next_rip : io ? vmcb.exit_info_2 : 0; // APM 2 15.10.2
    const u64 length = exit.next_rip - vmcb.rip;
    exit.instruction_length = length <= 15 ? static_cast<u32>(length) : 0;
}

} // namespace refhv::svm
