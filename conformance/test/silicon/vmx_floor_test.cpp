// SPDX-License-Identifier: MIT
// What a guest of VMX cannot have, whatever its client asks: refhv/vmx/floor.hpp.
#include "conformance/test/silicon/vmx_fixture.hpp"

namespace refhv::silicon {

namespace {

using vmx::BasicExit;
using vmx::Field;
namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;

constexpr u32 valid = 1u << 31;

class VmxFloor : public VmxTest {
  protected:
    // What the guest does next exits, and the core answers it without the policy.
    void expect_answered() {
        ASSERT_EQ(enter(), Entered::exited);
        EXPECT_TRUE(vcpu_->translate(exit_)) << "raw reason " << exit_.raw_reason;
    }
};

// `mov $15, %cr8; jmp .` masks no interrupt of the host's.
TEST_F(VmxFloor, the_hosts_interrupts_come_whatever_the_guests_cr8_is) {
    create();
    vmx().then([](VmxGuest& g) {
        g.mov_to_cr8(15);
        g.interrupt(0xf0);
    });
    begin();
    EXPECT_EQ(enter(), Entered::exited);
    EXPECT_EQ(reason(), abi::Reason::external_interrupt);
    EXPECT_EQ(machine().cr8, 0u);
    EXPECT_TRUE(vmx().held.empty());
    EXPECT_EQ(end(), 0u);
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr8, 15u); // and it has it
}

TEST_F(VmxFloor, cr8_is_emulated_where_the_cpu_has_no_tpr_shadow) {
    u64& proc = machine().msrs[x86::msr::vmx_true_proc].value;
    proc &= ~(u64{vmx::proc::tpr_shadow} << 32);
    create();
    for (const u64 value : {15, 7}) {
        vmx().then([=](VmxGuest& g) { g.mov_to_cr8(value); });
        vmx().then([](VmxGuest& g) { g.interrupt(0xf0); });
    }
    begin();
    const u64 rip = vmx().get(Field::guest_rip);
    expect_answered();
    EXPECT_EQ(vmx().get(Field::guest_rip), rip + 3);
    EXPECT_EQ(enter(), Entered::exited);
    EXPECT_EQ(reason(), abi::Reason::external_interrupt);
    expect_answered();
    EXPECT_EQ(end(), 0u);
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr8, 7u);
}

// An interrupt that the run has for the guest waits for its TPR, by an exit of its own and not by one at
// every entry.
TEST_F(VmxFloor, an_interrupt_waits_for_the_guests_tpr) {
    state_.rflags |= x86::rflags_bits::interrupt;
    state_.cr8 = 5;
    create();
    begin();
    EXPECT_FALSE(vcpu_->takes_interrupt(0x51));
    vcpu_->await_interrupt_window(true);
    EXPECT_EQ(vmx().get(Field::proc_based_controls) & vmx::proc::interrupt_window, 0u);
    vmx().then([](VmxGuest& g) { g.mov_to_cr8(4); });
    expect_answered();
    EXPECT_TRUE(vcpu_->takes_interrupt(0x51));
    EXPECT_FALSE(vcpu_->takes_interrupt(0x41));
    vcpu_->await_interrupt_window(false);
    EXPECT_EQ(end(), 0u);
    EXPECT_EQ(vmx().get(Field::tpr_threshold), 0u);
}

TEST_F(VmxFloor, caching_stays_the_hosts) {
    create();
    const u64 off = state_.cr0 | cr0::cd | cr0::nw | cr0::am;
    vmx().then([=](VmxGuest& g) { g.mov_to_cr0(off); });
    begin();
    expect_answered();
    EXPECT_EQ(end(), 0u);
    EXPECT_EQ(machine().cr0 & (cr0::cd | cr0::nw), 0u);
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr0, off); // as the guest reads it
    vmx().then([=](VmxGuest& g) { g.mov_to_cr0((off & ~cr0::cd)); });
    begin();
    expect_answered(); // NW without CD
    (void)enter();
    ASSERT_FALSE(vmx().injected.empty());
    EXPECT_EQ(vmx().injected.back().info & 0xff, 13u);
    EXPECT_EQ(end(), 0u);
}

// The upper half of a register is no operand there.
TEST_F(VmxFloor, control_registers_take_32_bits_outside_64_bit_mode) {
    state_.segment[abi::cs].rights = 0xc09b;
    create();
    constexpr u64 rest = u64{0x1234} << 32;
    const u64 cr4 = state_.cr4 | cr4::mce, cr0 = state_.cr0 | cr0::cd;
    vmx().then([=](VmxGuest& g) { g.mov_to_cr4(cr4 | rest); });
    vmx().then([=](VmxGuest& g) { g.mov_to_cr0(cr0 | rest); });
    begin();
    expect_answered();
    expect_answered();
    EXPECT_EQ(end(), 0u);
    EXPECT_TRUE(vmx().injected.empty());
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr4, cr4);
    EXPECT_EQ(state_.cr0, cr0);
}

TEST_F(VmxFloor, exceptions_that_could_loop_in_delivery_exit_and_are_the_guests_again) {
    create();
    for (const u8 vector : {u8{1}, u8{17}}) {
        vmx().then([=](VmxGuest& g) { g.raise(vector, 0, vector == 1 ? 1u << 14 | 2 : 0); });
        begin();
        expect_answered();
        (void)enter();
        ASSERT_FALSE(vmx().injected.empty()) << int{vector};
        EXPECT_EQ(vmx().injected.back().info & 0xff, vector);
        if (vector == 1) {
            EXPECT_EQ(machine().dr6 & (1u << 14 | 0xf), 1u << 14 | 2u);
        }
        EXPECT_EQ(end(), 0u);
    }
    EXPECT_TRUE(vmx().delivered.empty());
}

TEST_F(VmxFloor, what_the_platform_permits_stays_what_it_was) {
    permissions = permit_all;
    create();
    vmx().then([](VmxGuest& g) {
        for (const u8 vector : {u8{1}, u8{17}, u8{18}}) {
            g.raise(vector);
        }
        g.mov_to_cr0(machine().cr0 | cr0::cd);
        g.mov_to_cr4((machine().cr4 & ~cr4::vmxe) | u64{1} << 23);
    });
    begin();
    ASSERT_EQ(enter(), Entered::exited);
    EXPECT_EQ(reason(), abi::Reason::hypercall);
    EXPECT_EQ(vmx().delivered, (std::vector<u8>{1, 17, 18}));
    EXPECT_EQ(end(), abi::host_cr0); // which the record of the run tells
}

TEST_F(VmxFloor, a_machine_check_is_the_hosts) {
    create();
    vmx().then([](VmxGuest& g) { g.raise(18); });
    begin();
    EXPECT_NE(vmx().get(Field::guest_cr4) & cr4::mce, 0u); // with MCE 0 the CPU would shut down
    expect_answered();
    EXPECT_EQ(asked.machine_checks, 1u);
    const u64 without = state_.cr4 | cr4::tsd;
    vmx().then([=](VmxGuest& g) { g.mov_to_cr4(without | cr4::mce); });
    vmx().then([=](VmxGuest& g) { g.mov_to_cr4(without); });
    expect_answered();
    expect_answered();
    EXPECT_NE(vmx().get(Field::guest_cr4) & cr4::mce, 0u);
    EXPECT_EQ(end(), 0u);
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr4, without);
}

TEST_F(VmxFloor, an_entry_that_fails_by_a_machine_check_tells_the_host) {
    create();
    vmx().then([](VmxGuest& g) {
        g.exit(BasicExit::entry_machine_check);
        g.set(Field::exit_reason, u64{valid} | 41);
    });
    begin();
    EXPECT_EQ(enter(), Entered::refused);
    EXPECT_EQ(refusal_.entry_failure, 41u);
    EXPECT_EQ(asked.machine_checks, 1u);
    EXPECT_EQ(end(), 0u);
}

// CET, PKS, UINTR, LASS, FRED and what nobody knows yet.
TEST_F(VmxFloor, bits_of_cr4_that_use_msrs_of_the_host_are_reserved) {
    create();
    begin();
    for (const unsigned bit : {23, 24, 25, 27, 32, 63}) {
        const u64 value = state_.cr4 | u64{1} << bit;
        vmx().then([value](VmxGuest& g) { g.mov_to_cr4(value); });
        expect_answered();
        (void)enter();
        ASSERT_FALSE(vmx().injected.empty()) << bit;
        EXPECT_EQ(vmx().injected.back().info & 0xff, 13u);
        vmx().injected.clear();
    }
    EXPECT_EQ(end(), 0u);
    state_.cr4 |= u64{1} << 23;
    EXPECT_FALSE(vcpu_->load(memory_, state_).ok());
}

// Only an exit that loads the host's CET state may follow a guest that moves SSP.
TEST_F(VmxFloor, cet_takes_the_permit_of_other_exit_controls) {
    const auto bit = [](Permit p) { return u64{1} << static_cast<u8>(p); };
    permissions = {bit(Permit::control_bits)};
    create();
    begin();
    EXPECT_NE(vmx().get(Field::cr4_mask) & cr4::cet, 0u);
    EXPECT_EQ(end(), 0u);
    state_.cr4 |= cr4::cet;
    EXPECT_FALSE(vcpu_->load(memory_, state_).ok());
    const Permissions both{permissions.bits | bit(Permit::world_switch)};
    EXPECT_EQ(vmx::Floor::of(cpu_->capabilities(), both, true).denied_cr4, 0u);
}

TEST_F(VmxFloor, raw_fields_do_not_reach_below_it) {
    create();
    abi::FieldReply reply{};
    permissions = permit_all; // else the requests would be refused before
    for (const Field f : {Field::pin_based_controls, Field::proc_based_controls, Field::secondary_controls,
                          Field::exit_controls, Field::entry_controls, Field::exception_bitmap,
                          Field::cr0_mask, Field::cr4_mask}) {
        const abi::Field zero{.vm = 0, .field = static_cast<u32>(f), .width = 0, .zero = 0, .value = 0};
        ASSERT_TRUE(vcpu_->field(memory_, zero, true, reply).ok());
    }
    permissions = {};
    begin();
    using namespace vmx;
    const auto has = [](Field f, u64 bits) { return (silicon::vmx().get(f) & bits) == bits; };
    EXPECT_TRUE(has(Field::pin_based_controls, pin::external_interrupt | pin::nmi));
    EXPECT_TRUE(has(Field::proc_based_controls,
                    proc::io_bitmaps | proc::msr_bitmaps | proc::secondary | proc::cr8_load));
    EXPECT_TRUE(has(Field::secondary_controls, proc2::ept));
    EXPECT_TRUE(has(Field::exit_controls, exit_control::host_address_space | exit_control::load_efer |
                                              exit_control::load_pat | exit_control::save_debug));
    EXPECT_TRUE(has(Field::entry_controls, entry_control::load_efer | entry_control::load_debug));
    EXPECT_TRUE(has(Field::exception_bitmap, 1u << 1 | 1u << 17 | 1u << 18));
    EXPECT_TRUE(has(Field::cr0_mask, x86::cr0::cd | x86::cr0::nw));
    EXPECT_TRUE(has(Field::cr4_mask, x86::cr4::mce | u64{1} << 23));
    (void)end();
    // And what must stay 0: MSRs that the core does not exchange.
    permissions = permit_all;
    for (const Field f : {Field::secondary_controls, Field::exit_controls, Field::entry_controls}) {
        const abi::Field ones{
            .vm = 0, .field = static_cast<u32>(f), .width = 0, .zero = 0, .value = 0xffff'ffff};
        ASSERT_TRUE(vcpu_->field(memory_, ones, true, reply).ok());
    }
    permissions = {};
    begin();
    const auto lacks = [](Field f, u64 bits) { return (silicon::vmx().get(f) & bits) == 0; };
    constexpr u64 exits = 1u << 12 | 1u << 23 | 0xfeu << 24, entries = 3u << 10 | 1u << 13 | 0xfdu << 16;
    EXPECT_TRUE(lacks(Field::exit_controls, exits));
    EXPECT_TRUE(lacks(Field::entry_controls, entries));
    EXPECT_TRUE(lacks(Field::secondary_controls,
                      proc2::vm_functions | proc2::vmcs_shadowing | proc2::virtualization_exceptions |
                          proc2::sub_page_rights | proc2::pt_guest_physical | proc2::pconfig));
    (void)end();
}

// What it believes of them is in the read shadows, which count for masked bits only.
TEST_F(VmxFloor, a_guest_reads_its_own_control_registers_behind_a_change_of_intercepts) {
    create();
    begin();
    EXPECT_EQ(end(), 0u);
    abi::InterceptReply reply{};
    vcpu_->intercept({}, reply);
    const u64 cr4 = state_.cr4;
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr4, cr4); // MCE is the host's
}

// The filter of the exit path is there for one exception that the client asked for; those of the floor exit
// beside it.
TEST_F(VmxFloor, it_costs_the_exit_path_no_filter) {
    create();
    abi::InterceptReply reply{};
    vcpu_->intercept({.vm = 0, .exceptions = 1u << 6, .set = 0}, reply);
    policy_.reactions[static_cast<usize>(abi::Reason::exception)] = {.action = abi::Action::advance,
                                                                     .length = 2};
    for (unsigned i = 0; i < 2; ++i) {
        begin();
        EXPECT_EQ(enter(), Entered::exited);
        EXPECT_EQ(vmx().entered_by, "vmx_enter_filtered");
        EXPECT_EQ(end(), 0u);
    }
}

class VmxMachineChecks : public VmxFloor {
  protected:
    // Does the world switch itself step over an intercepted #MC, as the policy asks?
    [[nodiscard]] bool are_stepped_over() {
        create();
        policy_.reactions[static_cast<usize>(abi::Reason::exception)] = {.action = abi::Action::advance,
                                                                         .length = 2};
        abi::InterceptReply reply{};
        vcpu_->intercept({.vm = 0, .exceptions = 1u << 18, .set = 0}, reply);
        begin();
        EXPECT_EQ(enter(), Entered::exited);
        EXPECT_EQ(end(), 0u);
        return vmx().entered_by == "vmx_enter_filtered";
    }
};

TEST_F(VmxMachineChecks, are_the_hosts_even_where_a_policy_steps_over_exceptions) {
    EXPECT_FALSE(are_stepped_over());
}

TEST_F(VmxMachineChecks, are_the_policys_where_the_platform_permits_it) {
    permissions = permit_all;
    EXPECT_TRUE(are_stepped_over());
}

TEST_F(VmxFloor, an_init_for_this_cpu_is_no_exit_of_the_guests) {
    create();
    vmx().then([](VmxGuest& g) { g.exit(BasicExit::init); });
    begin();
    expect_answered();
    EXPECT_EQ(end(), 0u);
}

} // namespace
} // namespace refhv::silicon
