// SPDX-License-Identifier: MIT
// A run on VMX: host state and the world switch.
#include "refhv/vcpu/host_interrupt.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"
#include "refhv/x86/tss.hpp"

namespace refhv::vmx {

#define REFHV_WORLD_SWITCH(name)                                                                             \
    extern "C" u32 name(Context* context);                                                                   \
    extern "C" const char name##_exit[];
REFHV_WORLD_SWITCH(vmx_enter)
REFHV_WORLD_SWITCH(vmx_enter_stamped)
REFHV_WORLD_SWITCH(vmx_enter_filtered)
REFHV_WORLD_SWITCH(vmx_enter_stamped_filtered)
#undef REFHV_WORLD_SWITCH

namespace {
constexpr u32 unused_type_selector_bits = 7; // TI and RPL must be 0 in host selectors (SDM 3C 27.2.3)

constexpr WorldSwitch world_switches[2][2] = { // [stamped][filtered]
    {{vmx_enter, vmx_enter_exit}, {vmx_enter_filtered, vmx_enter_filtered_exit}},
    {{vmx_enter_stamped, vmx_enter_stamped_exit},
     {vmx_enter_stamped_filtered, vmx_enter_stamped_filtered_exit}}};
} // namespace

void Vcpu::write_host_state() {
    namespace m = x86::msr;
    host_.gdtr = x86::sgdt();
    host_.idtr = x86::sidt();
    host_.fs = x86::read_fs();
    host_.gs = x86::read_gs();
    host_.ds = x86::read_ds();
    host_.es = x86::read_es();
    host_.ldtr = x86::sldt();
    host_.fs_base = x86::rdmsr(m::fs_base);
    host_.gs_base = x86::rdmsr(m::gs_base);
    host_.dr7 = x86::read_dr7();
    if (!platform::try_rdmsr(m::debugctl, host_.debugctl)) {
        host_.debugctl = 0;
    }
    const auto usable = [](u16 selector) -> u64 {
        return (selector & unused_type_selector_bits) != 0 ? 0 : selector;
    };
    host_.tr = x86::str();
    host_.cr3 = x86::read_cr3();
    host_.cr4 = x86::read_cr4();
    write(Field::host_cs_selector, x86::read_cs());
    write(Field::host_ss_selector, usable(x86::read_ss()));
    write(Field::host_ds_selector, usable(host_.ds));
    write(Field::host_es_selector, usable(host_.es));
    write(Field::host_fs_selector, usable(host_.fs));
    write(Field::host_gs_selector, usable(host_.gs));
    write(Field::host_tr_selector, host_.tr);
    write(Field::host_cr0, x86::read_cr0());
    write(Field::host_cr3, host_.cr3);
    write(Field::host_cr4, host_.cr4);
    write(Field::host_fs_base, host_.fs_base);
    write(Field::host_gs_base, host_.gs_base);
    write(Field::host_tr_base, x86::tss_base(host_.gdtr, host_.tr));
    write(Field::host_gdtr_base, host_.gdtr.base);
    write(Field::host_idtr_base, host_.idtr.base);
    write(Field::host_sysenter_cs, x86::rdmsr(m::sysenter_cs));
    write(Field::host_sysenter_esp, x86::rdmsr(m::sysenter_esp));
    write(Field::host_sysenter_eip, x86::rdmsr(m::sysenter_eip));
    write(Field::host_efer, x86::rdmsr(m::efer));
    write(Field::host_pat, x86::rdmsr(m::pat));
    write(Field::host_rsp, reinterpret_cast<u64>(context_));
    write(Field::host_rip, reinterpret_cast<u64>(switch_->exit));
    override_host_state();
}

// The last value of each field counts. false: no room.
bool Vcpu::override_host_field(u32 field, u64 value) {
    u32 i = 0;
    while (i < override_count_ && overrides_[i].field != field) {
        ++i;
    }
    if (i == sizeof overrides_ / sizeof overrides_[0]) {
        return false;
    }
    overrides_[i] = {field, value};
    override_count_ = i == override_count_ ? i + 1 : override_count_;
    return true;
}

void Vcpu::override_host_state() const {
    for (u32 i = 0; i < override_count_; ++i) {
        (void)vmwrite(overrides_[i].field, overrides_[i].value);
    }
}

// An exit brings back what was written, and in a window the host may have gone on: other tables for the same
// task, a feature turned on.
void Vcpu::follow_host() {
    const u64 cr3 = x86::read_cr3(), cr4 = x86::read_cr4();
    if (cr3 != host_.cr3 || cr4 != host_.cr4) [[unlikely]] {
        host_.cr3 = cr3;
        host_.cr4 = cr4;
        write(Field::host_cr3, cr3);
        write(Field::host_cr4, cr4);
        override_host_state();
    }
}

// Loading GS makes its base another, and an NMI that comes before that is mended must find the host's: in GS
// or, as in code between two SWAPGS, in IA32_KERNEL_GS_BASE.
void Vcpu::load_host_gs() const {
    const u64 kernel = x86::rdmsr(x86::msr::kernel_gs_base);
    x86::swapgs();
    x86::write_gs(host_.gs);
    x86::swapgs();
    x86::wrmsr(x86::msr::kernel_gs_base, kernel);
}

// A VM exit sets the limits of GDTR and IDTR to FFFFH, that of TR to 67H, LDTR to null, DR7 to 400H and
// IA32_DEBUGCTL to 0 (SDM 3C 28.5.1, 28.5.2). The host's own IA32_KERNEL_GS_BASE is back.
void Vcpu::restore_host_state() {
    x86::lgdt(host_.gdtr);
    x86::lidt(host_.idtr);
    if (host_.ldtr != 0) {
        x86::lldt(host_.ldtr);
    }
    if ((host_.ds & unused_type_selector_bits) != 0) {
        x86::write_ds(host_.ds);
    }
    if ((host_.es & unused_type_selector_bits) != 0) {
        x86::write_es(host_.es);
    }
    if ((host_.fs & unused_type_selector_bits) != 0) {
        x86::write_fs(host_.fs);
        x86::wrmsr(x86::msr::fs_base, host_.fs_base);
    }
    if ((host_.gs & unused_type_selector_bits) != 0) {
        load_host_gs();
    }
    constexpr u32 limit_after_exit = 0x67;
    if (x86::tss_limit(host_.gdtr, host_.tr) != limit_after_exit) {
        platform::reload_task_register();
    }
    x86::write_dr7(host_.dr7);
    if (host_.debugctl != 0) {
        x86::wrmsr(x86::msr::debugctl, host_.debugctl);
    }
}

void Vcpu::set_rules(const Policy& policy) {
    // Those that exit for the host's sake alone match no filter, and are in the bitmap of a second run only.
    // A machine check is the host's before it is a policy's.
    const u64 hosts = floor_.exceptions.set & (~u64{exceptions_} | u64{1} << x86::vector::machine_check);
    const u32 exceptions = static_cast<u32>(read(Field::exception_bitmap) & ~hosts);
    // The exit path does not look at RFLAGS.TF.
    const bool steps = (read(Field::guest_rflags) & x86::rflags_bits::tf) != 0;
    fast_.clear();
    filtered_ = false;
    for (u32 basic = 0; basic < VMX_EXIT_REASONS; ++basic) {
        FastRule rule = steps || shadows(basic) ? no_rule : fast_rule(basic, policy, exceptions);
        if (extras_.asked() != 0 && rule.needs_filter()) { // their world switches have none
            rule = no_rule;
        }
        context_->budget[basic] = 0;
        context_->field[basic] = static_cast<u64>(rule.field);
        context_->mask[basic] = rule.mask;
        context_->match[basic] = rule.match;
        context_->length[basic] = rule.length;
        if (rule.reason != abi::Reason::none) {
            fast_.add(basic, rule.reason);
            filtered_ = filtered_ || rule.needs_filter();
        }
    }
}

// The VMCS may be active on one CPU only, and what that one keeps of it must reach memory first (SDM 3C
// 25.11.1).
void Vcpu::leave_cpu() {
    (void)vmclear(vmcs_);
    context_->launched = 0;
}

Status Vcpu::arrive(Arena& arena, u32 cpu) {
    if (const Status s = cpu_.enable(arena, cpu); !s.ok()) {
        return s;
    }
    make_current();
    // What this CPU knows of this EPT pointer and this VPID is from another time.
    drop_translations();
    drop_tagged();
    return {};
}

Status Vcpu::begin(const GuestMemory& memory, const RunPlan& plan) {
    make_current();
    virtual_apic_ = find_virtual_apic(memory);
    acknowledges_ = (read(Field::exit_controls) & exit_control::ack_interrupt) != 0;
    if (mmu_ != nullptr) {
        if (memory.changed) { // what is written between runs is not tracked
            mmu_->mmu().drop_all();
        }
        write_translation_registers();
    }
    extras_.begin(plan.extras, plan.extra_count);
    set_rules(plan.policy);
    virtualize_nmis(plan.policy.of(abi::Reason::nmi).action == abi::Action::inject ||
                    (floor_.pin.set & pin::nmi) != 0);
    ipis_ = plan.ipis;
    stamped_ = plan.stamps != nullptr;
    switch_ = plan.extras != 0 ? extra_switch(x86::switched_extra(plan.extras), stamped_)
                               : &world_switches[stamped_][filtered_];
    context_->stamp =
        plan.stamps - (stamped_ ? 1 : 0); // the first entry writes into the scratch record in front
    if ((read(Field::pin_based_controls) & pin::preemption_timer) != 0) {
        write(Field::preemption_timer_value, plan.preemption_timer);
    }
    take_registers();
    if (plan.extras != 0) {
        begin_extras();
    }
    lay_floor();
    return {};
}

void Vcpu::end() {
    end_instruction();
    await_tpr(0);
    if (extras_.asked() != 0) {
        end_extras();
    }
    end_virtual_nmis();
    give_registers();
}

void Vcpu::take_registers() {
    write_host_state();
    x86::write_dr7(0x400);
    registers_.load_uncarried(features_);
    registers_.exchange_carried_by_vmcb();
    registers_.exchange_pkru(features_);
}

void Vcpu::give_registers() {
    registers_.exchange_pkru(features_);
    registers_.unload_uncarried(features_);
    registers_.exchange_carried_by_vmcb();
    restore_host_state();
}

Entered Vcpu::enter(u64 fast, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal& refusal) {
    follow_host();
    if (iret_unblocked_) {
        block_nmis_again();
    }
    fast_.share_out(context_->budget, fast);
    if (extras_.asked() != 0) {
        extras_.before_switch();
    }
    const u32 result = switch_->enter(context_);
    if (extras_.asked() != 0) {
        extras_.after_switch(counts);
    }

    if (result != 0) {
        refusal.instruction_error = result == 1 ? static_cast<u32>(read(Field::instruction_error)) : 0;
        exit = {};
        return Entered::refused;
    }
    decode_exit(exit);
    const u32 basic = exit.raw_reason & 0xffff;
    if ((exit.raw_reason >> 31 & 1) != 0) {
        refusal.entry_failure = basic;
        refusal.qualification = exit.qualification;
        if (basic == static_cast<u32>(BasicExit::entry_machine_check)) {
            platform::machine_check();
        }
        return Entered::refused;
    }
    context_->launched = 1;
    if (exit.reason == static_cast<u16>(abi::Reason::nmi)) {
        platform::take_nmi(); // the exit has consumed it, and blocks further ones until an IRET
    }
    keep_nmis_blocked(exit);
    if (acknowledges_ && exit.reason == static_cast<u16>(abi::Reason::external_interrupt)) {
        x86::deliver_to_host(static_cast<u8>(read(Field::exit_interruption_info))); // SDM 3C 28.2.2
    }
    fast_.collect(context_->budget, basic, counts, handled);
    return Entered::exited;
}

void Vcpu::describe(abi::Exit& exit) {
    exit.info = read(Field::exit_instruction_info);
    exit.instruction_length = static_cast<u32>(read(Field::exit_instruction_length));
    exit.guest_physical = mmu_ != nullptr ? exit.guest_physical : read(Field::guest_physical_address);
    exit.guest_linear = read(Field::guest_linear_address);
    exit.next_rip = read(Field::guest_rip) + exit.instruction_length;
    exit.interruption_info = static_cast<u32>(read(Field::exit_interruption_info));
    exit.interruption_error =
        own_fault_ ? fault_error_ : static_cast<u32>(read(Field::exit_interruption_error));
    exit.vectoring = read(Field::vectoring_info) | read(Field::vectoring_error) << 32;
}

} // namespace refhv::vmx
