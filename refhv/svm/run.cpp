// SPDX-License-Identifier: MIT
// A run on SVM: the world switch.
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

extern "C" void svm_enter(Context* context);
extern "C" void svm_enter_stamped(Context* context);
extern "C" void svm_enter_filtered(Context* context);
extern "C" void svm_enter_stamped_filtered(Context* context);

namespace {
constexpr WorldSwitch world_switches[2][2] = { // [stamped][filtered]
    {svm_enter, svm_enter_filtered},
    {svm_enter_stamped, svm_enter_stamped_filtered}};

// A #VMEXIT loads ES and DS again while LDTR is still the guest's, and a fault then is a shutdown (APM
// 2 15.6). A process may have such a selector there, and a kernel of 64 bits leaves it.
constexpr bool is_of_ldt(u16 selector) {
    return (selector & 4) != 0;
}
} // namespace

Status Vcpu::arrive(Arena& arena, u32 cpu) {
    on_cpu_ = cpu;
    flush_pending_ = true; // what this CPU knows of this ASID is from another time
    vmcb_->clean_bits = 0; // and so is what it has cached of the VMCB (APM 2 15.15.1)
    return cpu_.enable(arena, cpu);
}

Status Vcpu::begin(const GuestMemory& memory, const RunPlan& plan) {
    if (plan.stamps != nullptr && !cpu_.orders_stamps(on_cpu_)) {
        return refuse(abi::Outcome::unsupported,
                      "host stamps: LFENCE orders nothing here, DE_CFG (C0011029H) bit 1 is 0");
    }
    const bool own_asid = floor_.own_asid || vmcb_->asid == own_asid_;
    if (asid_round_ != cpu_.round() && own_asid) {
        retag();
    }
    flush_round_ = own_asid ? asid_round_ : cpu_.round();
    flush_pending_ = flush_pending_ || cpu_.is_flush_due(on_cpu_, flush_round_);
    if (mmu_ != nullptr) {
        if (memory.changed) { // what is written between runs is not tracked
            mmu_->mmu().drop_all();
        }
        write_translation_registers();
    }
    extras_.begin(plan.extras, plan.extra_count);
    set_rules(plan.policy);
    ipis_ = plan.ipis;
    stamped_ = plan.stamps != nullptr;
    switch_ = plan.extras != 0 ? extra_switch(x86::switched_extra(plan.extras), stamped_)
                               : world_switches[stamped_][filtered_];
    context_->stamp =
        plan.stamps - (stamped_ ? 1 : 0); // the first entry writes into the scratch record in front
    take_registers();
    if (plan.extras != 0) {
        begin_extras();
    }
    tsc_ratio_.begin();
    has_run_ = true;
    lay_floor();
    return {};
}

void Vcpu::end() {
    end_instruction();
    unblock_nmis();
    tsc_ratio_.end();
    if (extras_.asked() != 0) {
        end_extras();
    }
    give_registers();
}

void Vcpu::take_registers() {
    host_dr7_ = x86::read_dr7();
    x86::write_dr7(0x400);
    host_es_ = x86::read_es();
    host_ds_ = x86::read_ds();
    if (is_of_ldt(host_es_)) {
        x86::write_es(0);
    }
    if (is_of_ldt(host_ds_)) {
        x86::write_ds(0);
    }
    registers_.load_uncarried(features_); // of the debug registers DR6 and DR7 are the VMCB's
    registers_.exchange_pkru(features_);
}

void Vcpu::give_registers() {
    registers_.exchange_pkru(features_);
    registers_.unload_uncarried(features_);
    if (is_of_ldt(host_es_)) {
        x86::write_es(host_es_);
    }
    if (is_of_ldt(host_ds_)) {
        x86::write_ds(host_ds_);
    }
    x86::write_dr7(host_dr7_); // #VMEXIT has disabled all breakpoints (APM 2 15.6)
}

Entered Vcpu::enter(u64 fast, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal& refusal) {
    // A pending flush concerns one VMRUN only, so that one comes back here at its first exit.
    const u64 allowed = flush_pending_ || armed_ != TlbControl::nothing ? 0 : fast;
    fast_.share_out(context_->budget, allowed);
    vmcb_->tlb_control = static_cast<u8>(due_flush());
    if (flush_pending_) {
        flush_pending_ = false;
        cpu_.flushed(on_cpu_, flush_round_);
    }
    armed_ = TlbControl::nothing;

    // With GIF clear nothing interrupts the host; with IF set the guest still exits on the host's interrupts
    // (V_INTR_MASKING, APM 2 15.21.1). What is pending is taken at STGI: an NMI at once, an interrupt once IF
    // allows.
    clgi();
    x86::sti();
    vmsave(cpu_.host_vmcb(on_cpu_));
    vmload(vmcb_physical_);
    if (extras_.asked() == 0) {
        switch_(context_);
    } else {
        switch_with_extras(counts);
    }
    vmsave(vmcb_physical_);
    vmload(cpu_.host_vmcb(on_cpu_));
    x86::cli();
    stgi();

    decode_exit(*vmcb_, cpu_.capabilities().nrip_save(), exit);
    vmcb_->event_injection = 0;
    if (exit.reason == static_cast<u16>(abi::Reason::entry_failure)) {
        refusal.entry_failure = 1;
        return Entered::refused;
    }
    fast_.collect(context_->budget, exit.raw_reason, counts, handled);
    return Entered::exited;
}

void Vcpu::describe(abi::Exit& exit) {
    const bool nested = exit.raw_reason == static_cast<u64>(ExitCode::npf);
    const bool exception = exit.reason == static_cast<u16>(abi::Reason::exception);
    exit.info = vmcb_->exit_info_2;
    exit.vectoring = vmcb_->exit_int_info;
    if (mmu_ == nullptr) { // which has said it, where it is to be said
        exit.guest_physical = nested ? vmcb_->exit_info_2 : 0;
    }
    exit.guest_linear = exception && exit.vector == 14 ? vmcb_->exit_info_2 : 0;
    exit.interruption_error = exception ? static_cast<u32>(vmcb_->exit_info_1) : 0;
}

} // namespace refhv::svm
