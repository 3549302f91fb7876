// SPDX-License-Identifier: MIT
// A run on SVM: the world switch and the answers to exits.
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/emulate.hpp"

namespace refhv::svm {

extern "C" void svm_enter(Context* context);
extern "C" void svm_enter_stamped(Context* context);
extern "C" void svm_enter_filtered(Context* context);
extern "C" void svm_enter_stamped_filtered(Context* context);

namespace {
constexpr void (*world_switches[2][2])(Context*) = { // [stamped][filtered]
    {svm_enter, svm_enter_filtered},
    {svm_enter_stamped, svm_enter_stamped_filtered}};
}

Status Vcpu::begin(const GuestMemory&, const RunPlan& plan) {
    if (mmu_ != nullptr) { // whoever wrote guest memory since the last run was not seen doing it
        mmu_->mmu().drop_all();
        write_translation_registers();
    }
    set_rules(plan.policy);
    stamped_ = plan.stamps != nullptr;
    context_->stamp =
        plan.stamps - (stamped_ ? 1 : 0); // the first entry writes into the scratch record in front
    host_dr7_ = x86::read_dr7();
    x86::write_dr7(0x400);
    registers_.exchange_debug_and_cr2(); // CR2, DR6 and DR7 of the guest are the VMCB's; DR0 to DR3 are not
    registers_.exchange_xcr0();
    if (cpu_.has_rdtscp()) {
        registers_.exchange_tsc_aux();
    }
    if (features_.pkru) {
        registers_.exchange_pkru();
    }
    return {};
}

void Vcpu::end() {
    end_instruction();
    if (features_.pkru) {
        registers_.exchange_pkru();
    }
    registers_.exchange_debug_and_cr2();
    registers_.exchange_xcr0();
    if (cpu_.has_rdtscp()) {
        registers_.exchange_tsc_aux();
    }
    x86::write_dr7(host_dr7_); // #VMEXIT has disabled all breakpoints (APM 2 15.6)
}

Entered Vcpu::enter(u64 fast, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal& refusal) {
    // A pending flush concerns one VMRUN only, so that one comes back here at its first exit.
    const u64 allowed = flush_pending_ || armed_ != TlbControl::nothing ? 0 : fast;
    const i64 share = static_cast<i64>(fast_count_ == 0 ? 0 : allowed / fast_count_);
    for (u32 i = 0; i < fast_count_; ++i) {
        context_->budget[fast_[i].raw] = share;
    }
    vmcb_->tlb_control = static_cast<u8>(due_flush());
    flush_pending_ = false;
    armed_ = TlbControl::nothing;

    // With GIF clear nothing interrupts the host; with IF set the guest still exits on the host's interrupts
    // (V_INTR_MASKING, APM 2 15.21.1). What is pending is taken at STGI: an NMI at once, an interrupt once IF
    // allows.
    clgi();
    x86::sti();
    vmsave(cpu_.host_vmcb());
    vmload(vmcb_physical_);
    world_switches[stamped_][filtered_](context_);
    vmsave(vmcb_physical_);
    vmload(cpu_.host_vmcb());
    x86::cli();
    stgi();

    decode_exit(*vmcb_, cpu_.capabilities().nrip_save(), exit);
    vmcb_->event_injection = 0;
    if (exit.reason == static_cast<u16>(abi::Reason::entry_failure)) {
        refusal.entry_failure = 1;
        return Entered::refused;
    }
    // The exit that came back took one from its budget too; without a policy it goes below 0 and back here.
    if (exit.raw_reason < SVM_EXIT_CODES && context_->budget[exit.raw_reason] < 0) {
        context_->budget[exit.raw_reason] = 0;
    }
    for (u32 i = 0; i < fast_count_; ++i) {
        const u64 answered = static_cast<u64>(share - context_->budget[fast_[i].raw]);
        counts[static_cast<usize>(fast_[i].reason)] += answered;
        handled += answered;
    }
    return Entered::exited;
}

void Vcpu::describe(abi::Exit& exit) {
    const bool nested = exit.raw_reason == static_cast<u64>(ExitCode::npf);
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    exit.info = vmcb_->exit_info_2;
    exit.vectoring = vmcb_->exit_int_info;
    exit.guest_physical = nested ? vmcb_->exit_info_2 : 0;
    exit.guest_linear = exception && exit.vector == 14 ? vmcb_->exit_info_2 : 0;
    exit.interruption_error = exception ? static_cast<u32>(vmcb_->exit_info_1) : 0;
}

bool Vcpu::advance(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    // nRIP is that of an intercepted instruction, and of nothing else (APM 2 15.7.1).
    const bool by_instruction =
        reason != exception && reason != nested_violation && reason != nested_misconfig;
    const u64 length =
        by_instruction && exit.instruction_length != 0 ? exit.instruction_length : reaction.length;
    if (length == 0) {
        return false;
    }
    vmcb_->rip += length;
    vmcb_->interrupt_shadow &= ~u64{1};
    return true;
}

bool Vcpu::emulates(abi::Reason reason) {
    return x86::emulates(reason);
}

// The guest's MSRs that VMLOAD and VMSAVE carry lie in the VMCB while C++ runs.
u64* Vcpu::guest_msr(u32 index) {
    switch (index) {
    case x86::msr::star:
        return &vmcb_->star;
    case x86::msr::lstar:
        return &vmcb_->lstar;
    case x86::msr::cstar:
        return &vmcb_->cstar;
    case x86::msr::sfmask:
        return &vmcb_->sfmask;
    case x86::msr::kernel_gs_base:
        return &vmcb_->kernel_gs_base;
    default:
        return nullptr;
    }
}

// Not in modes shadow and vtlb: there it decides about translation.
bool Vcpu::emulate_efer(abi::Reason reason) {
    u64 efer = vmcb_->efer & ~x86::efer::svme;
    if (reason == abi::Reason::rdmsr) {
        vmcb_->rax = static_cast<u32>(efer);
        context_->gpr[abi::rdx] = efer >> 32;
        return true;
    }
    const u64 wanted = static_cast<u32>(vmcb_->rax) | context_->gpr[abi::rdx] << 32;
    if (!x86::emulate_write_efer(wanted, vmcb_->cr0, efer)) {
        return false;
    }
    vmcb_->efer = efer | x86::efer::svme;
    vmcb_->clean_bits = 0;
    return true;
}

bool Vcpu::emulate(const abi::Exit& exit, const Reaction& reaction) {
    using enum abi::Reason;
    const auto reason = static_cast<abi::Reason>(exit.reason);
    u64* gpr = context_->gpr;
    gpr[abi::rax] = vmcb_->rax;
    if (reason == rdmsr || reason == wrmsr) {
        if (static_cast<u32>(gpr[abi::rcx]) == x86::msr::efer) {
            return emulate_efer(reason) && advance(exit, reaction);
        }
        u64* const value = guest_msr(static_cast<u32>(gpr[abi::rcx]));
        if (value == nullptr || !x86::emulate_msr(reason, gpr, *value)) {
            return false;
        }
    } else if (!x86::emulate(reason, gpr)) {
        return false;
    }
    vmcb_->rax = gpr[abi::rax];
    return advance(exit, reaction);
}

bool Vcpu::redeliver(const abi::Exit&) {
    constexpr u64 valid = 1u << 31, software_interrupt = 4;
    const u64 event = vmcb_->exit_int_info, vector = event & 0xff;
    // INT n, INT3 and INTO are executed anew: RIP is still theirs.
    const bool by_instruction = (event >> 8 & 7) == software_interrupt || vector == 3 || vector == 4;
    if ((event & valid) != 0 && !by_instruction) {
        vmcb_->event_injection = event; // the same format (APM 2 15.7.2)
    }
    return true;
}

bool Vcpu::inject(const abi::Exit& exit) {
    if (exit.reason != static_cast<u16>(abi::Reason::exception)) {
        return false;
    }
    constexpr u32 with_error =
        1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 | 1u << 21;
    constexpr u64 type_exception = 3u << 8, error_valid = 1u << 11, valid = 1u << 31; // APM 2 15.20
    const bool has_error = (with_error >> exit.vector & 1) != 0;
    vmcb_->event_injection = exit.vector | type_exception | valid | (has_error ? error_valid : 0) |
                             (has_error ? vmcb_->exit_info_1 << 32 : 0);
    if (exit.vector == 14) {
        vmcb_->cr2 = vmcb_->exit_info_2;
    }
    return true;
}

bool Vcpu::map(const GuestMemory& memory, const abi::Exit& exit) {
    // Rights only grow here; a nested page fault leaves no stale translation of its address behind (APM
    // 2 15.25.8).
    return mmu_ == nullptr && npt_.fix(memory, exit.guest_physical);
}

} // namespace refhv::svm
