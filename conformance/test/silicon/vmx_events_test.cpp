// SPDX-License-Identifier: MIT
// Events of a guest of VMX that an exit has interrupted, or that an answer owes it (SDM 3C 27.6, 28.2).
#include "conformance/test/silicon/vmx_fixture.hpp"

namespace refhv::silicon {

namespace {

using vmx::BasicExit;
using vmx::Field;

constexpr u32 valid = 1u << 31, error_valid = 1u << 11, exception = 3u << 8, type_nmi = 2u << 8;
constexpr u64 by_nmi = 8, unblocked_by_iret = 1u << 12;

class VmxEvents : public VmxTest {
  protected:
    void exit_with(const std::function<void(VmxGuest&)>& step) {
        vmx().then(step);
        ASSERT_EQ(enter(), Entered::exited);
    }
    // What the next entry injects.
    [[nodiscard]] Injected next() {
        vmx().injected.clear();
        (void)enter();
        return vmx().injected.empty() ? Injected{} : vmx().injected.back();
    }
    void intercept_everything() {
        abi::InterceptReply reply{};
        vcpu_->intercept({.vm = 0, .exceptions = ~0u, .set = 0}, reply);
    }
};

TEST_F(VmxEvents, a_second_fault_in_delivery_becomes_a_double_fault_and_a_third_ends_the_run) {
    struct {
        u32 first;
        u8 second;
        u32 injected; // 0: none, the run stops
    } const cases[] = {
        {valid | exception | error_valid | 13, 13, valid | exception | error_valid | 8},
        {valid | exception | error_valid | 14, 14, valid | exception | error_valid | 8},
        {valid | exception | error_valid | 14, 11, valid | exception | error_valid | 8},
        {valid | exception, 13, valid | exception | error_valid | 8},
        {valid | exception | error_valid | 13, 14, valid | exception | error_valid | 14},
        {valid | exception | error_valid | 8, 13, 0},
        {valid | 0x30, 13, valid | exception | error_valid | 13},
        {valid | 6u << 8 | 3, 13, valid | exception | error_valid | 13},
        {valid | exception | error_valid | 14, 1, valid | exception | 1},
    };
    permissions = permit_all; // the client sees to them
    create();
    intercept_everything();
    begin();
    for (const auto& c : cases) {
        exit_with([&](VmxGuest& g) {
            g.raise(c.second, 0x18);
            g.set(Field::vectoring_info, c.first);
        });
        EXPECT_EQ(vcpu_->inject(exit_), c.injected != 0) << c.first;
        if (c.injected != 0) {
            EXPECT_EQ(next().info, c.injected) << c.first << ' ' << int{c.second};
        }
    }
    (void)end();
}

TEST_F(VmxEvents, an_nmi_whose_delivery_was_cut_short_is_not_blocked_by_itself) {
    policy_.reactions[static_cast<usize>(abi::Reason::nmi)].action = abi::Action::inject;
    create();
    begin();
    exit_with([](VmxGuest& g) {
        g.exit(BasicExit::ept_violation);
        g.set(Field::vectoring_info, valid | type_nmi | 2);
        g.set(Field::guest_interruptibility, by_nmi);
    });
    EXPECT_TRUE(vcpu_->redeliver(exit_));
    EXPECT_EQ(next().info, valid | type_nmi | 2);
    (void)end();
}

TEST_F(VmxEvents, an_iret_that_faulted_leaves_nmis_blocked) {
    policy_.reactions[static_cast<usize>(abi::Reason::nmi)].action = abi::Action::inject;
    create();
    begin();
    const auto blocked = [] { return vmx().get(Field::guest_interruptibility) & by_nmi; };
    const auto blocked_at_the_next_entry = [&] {
        vmx().then([](VmxGuest& g) { g.exit(BasicExit::hlt, 0, 1); });
        (void)enter();
        const u64 found = blocked();
        vmx().set(Field::guest_interruptibility, 0);
        return found;
    };
    const auto fault = [](u32 vector) {
        return [=](VmxGuest& g) {
            g.exit(BasicExit::exception_or_nmi);
            g.set(Field::exit_interruption_info,
                  valid | exception | error_valid | vector | unblocked_by_iret);
        };
    };
    exit_with([](VmxGuest& g) { g.exit(BasicExit::ept_violation, unblocked_by_iret); });
    EXPECT_EQ(blocked(), 0u) << "what the exit left is what a client reads";
    EXPECT_EQ(blocked_at_the_next_entry(), by_nmi);
    EXPECT_EQ(blocked_at_the_next_entry(), 0u) << "once";
    exit_with([](VmxGuest& g) { // the bit is undefined with an event in delivery
        g.exit(BasicExit::ept_violation, unblocked_by_iret);
        g.set(Field::vectoring_info, valid | exception | error_valid | 14);
    });
    EXPECT_EQ(blocked_at_the_next_entry(), 0u);
    exit_with(fault(14));
    EXPECT_EQ(blocked_at_the_next_entry(), by_nmi);
    exit_with(fault(13));
    EXPECT_TRUE(vcpu_->inject(exit_));
    EXPECT_EQ(blocked_at_the_next_entry(), 0u) << "the fault is the guest's, whose IRET is over";
    exit_with(fault(8)); // undefined
    EXPECT_EQ(blocked_at_the_next_entry(), 0u);
    exit_with([](VmxGuest& g) { g.exit(BasicExit::cpuid, unblocked_by_iret, 2); });
    EXPECT_EQ(blocked_at_the_next_entry(), 0u);
    exit_with(fault(14));
    (void)end();
    EXPECT_EQ(blocked(), 0u) << "between runs the CPU's own NMIs would be blocked";
    begin();
    EXPECT_EQ(blocked_at_the_next_entry(), by_nmi);
    (void)end();
}

TEST_F(VmxEvents, rip_moves_by_lengths_that_the_manual_defines_only) {
    create();
    begin();
    using enum BasicExit;
    const Reaction told{.action = abi::Action::advance, .length = 0}, own{abi::Action::advance, 4};
    for (const BasicExit trap : {external_interrupt, triple_fault, interrupt_window, nmi_window, task_switch,
                                 monitor_trap, tpr_below_threshold, apic_access, virtualized_eoi, apic_write,
                                 ept_violation, ept_misconfig, preemption_timer, pml_full}) {
        const u64 rip = vmx().get(Field::guest_rip);
        exit_with([&](VmxGuest& g) { g.exit(trap); });
        EXPECT_FALSE(vcpu_->advance(exit_, told)) << static_cast<int>(trap);
        EXPECT_EQ(vmx().get(Field::guest_rip), rip);
        EXPECT_TRUE(vcpu_->advance(exit_, own));
        EXPECT_EQ(vmx().get(Field::guest_rip), rip + 4);
    }
    for (const BasicExit fault :
         {cpuid,  hlt,    invd,   invlpg,  rdpmc,   rdtsc,  vmcall,    cr_access, mov_dr,
          io,     rdmsr,  wrmsr,  mwait,   monitor, pause,  gdtr_idtr, ldtr_tr,   rdtscp,
          wbinvd, xsetbv, rdrand, invpcid, rdseed,  xsaves, xrstors}) {
        const u64 rip = vmx().get(Field::guest_rip);
        exit_with([&](VmxGuest& g) { g.exit(fault, 0, 3); });
        EXPECT_TRUE(vcpu_->advance(exit_, told)) << static_cast<int>(fault);
        EXPECT_EQ(vmx().get(Field::guest_rip), rip + 3);
    }
    (void)end();
}

TEST_F(VmxEvents, an_answered_instruction_traps_where_the_guest_steps) {
    state_.rflags |= x86::rflags_bits::tf;
    create();
    begin();
    exit_with([](VmxGuest& g) { g.exit(BasicExit::cpuid, 0, 2); });
    EXPECT_TRUE(vcpu_->advance(exit_, {.action = abi::Action::advance}));
    constexpr u64 single_step = 1u << 14;
    EXPECT_EQ(vmx().get(Field::guest_pending_debug), single_step);
    vmx().set(Field::guest_pending_debug, 0);
    machine().msrs[x86::msr::debugctl].value = 0;
    exit_with([](VmxGuest& g) {
        machine().msrs[x86::msr::debugctl].value = 2; // BTF: branches alone trap
        g.exit(BasicExit::cpuid, 0, 2);
    });
    EXPECT_TRUE(vcpu_->advance(exit_, {.action = abi::Action::advance}));
    EXPECT_EQ(vmx().get(Field::guest_pending_debug), 0u);
    (void)end();
}

// `sti` under RFLAGS.TF, whose trap exits for the host's sake (SDM 3C 27.3.1.5, 28.3.4).
TEST_F(VmxEvents, a_single_step_trap_behind_sti_is_handed_back) {
    create();
    begin();
    constexpr u64 by_sti = 1, single_step = 1u << 14, lbr_and_btf = 3;
    machine().msrs[x86::msr::debugctl].value = 0;
    exit_with([](VmxGuest& g) {
        g.set(Field::guest_rflags, 2 | x86::rflags_bits::tf | x86::rflags_bits::interrupt);
        g.set(Field::guest_interruptibility, by_sti);
        g.raise(1, 0, single_step);
    });
    EXPECT_TRUE(vcpu_->translate(exit_));
    EXPECT_EQ(next().info, valid | exception | 1);
    // What a delivery would have changed (SDM 3B 17.4.3).
    exit_with([](VmxGuest& g) {
        machine().dr7 |= 1u << 13;
        machine().msrs[x86::msr::debugctl].value = lbr_and_btf;
        g.raise(1, 0, single_step);
    });
    EXPECT_TRUE(vcpu_->translate(exit_));
    EXPECT_EQ(vmx().get(Field::guest_debugctl) & lbr_and_btf, 0u);
    EXPECT_EQ(vmx().get(Field::guest_dr7) & (1u << 13), 0u);
    EXPECT_EQ(end(), 0u);
}

TEST_F(VmxEvents, an_interrupt_shadow_is_one_that_the_entry_takes) {
    using namespace x86::rflags_bits;
    create();
    for (const u64 flags : {u64{0}, interrupt, tf, interrupt | tf}) {
        state_.rflags = fixed | flags;
        state_.interrupt_shadow = 1;
        ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
        begin();
        EXPECT_EQ(enter(), Entered::exited) << flags;
        EXPECT_EQ(end(), 0u);
    }
}

TEST_F(VmxEvents, a_fault_in_real_mode_has_no_error_code) {
    create();
    begin();
    vmx().set(Field::guest_cr0, vmx().get(Field::guest_cr0) & ~(x86::cr0::pe | x86::cr0::pg));
    exit_with([](VmxGuest& g) { g.mov_to_cr4(u64{1} << 23); });
    EXPECT_TRUE(vcpu_->translate(exit_));
    EXPECT_EQ(next().info, valid | exception | 13);
    (void)end();
}

// The guest's WRMSR, done on the host.
TEST_F(VmxEvents, msrs_that_would_fault_in_the_host_are_not_written) {
    create();
    begin();
    const auto write = [&](u32 index, u64 value) {
        exit_with([=](VmxGuest& g) { g.wrmsr(index, value); });
        EXPECT_EQ(reason(), abi::Reason::wrmsr);
        bool done = false;
        EXPECT_NO_THROW(done = vcpu_->emulate(exit_, {}));
        return done;
    };
    EXPECT_FALSE(write(x86::msr::sfmask, u64{1} << 32));
    EXPECT_FALSE(write(x86::msr::lstar, u64{1} << 62));
    EXPECT_FALSE(write(x86::msr::kernel_gs_base, 0x0000'8000'0000'0000));
    EXPECT_TRUE(write(x86::msr::sfmask, 0x700));
    EXPECT_TRUE(write(x86::msr::lstar, 0xffff'8000'0000'0000));
    EXPECT_EQ(end(), 0u);
}

} // namespace
} // namespace refhv::silicon
