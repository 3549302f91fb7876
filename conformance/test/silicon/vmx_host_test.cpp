// SPDX-License-Identifier: MIT
// What a run on VMX must leave as it found it: SDM 3C 28.5, line by line.
#include "conformance/test/silicon/vmx_fixture.hpp"

namespace refhv::silicon {

namespace {

using vmx::BasicExit;
using vmx::Field;

class VmxHost : public VmxTest {};

TEST_F(VmxHost, a_run_leaves_everything_alone) {
    create();
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::hypercall);
}

TEST_F(VmxHost, the_limit_of_tr_comes_back) {
    create();
    const TaskRegister before = machine().tr;
    ASSERT_GT(before.limit, 0x67u);
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().tr.limit, before.limit);
    EXPECT_EQ(machine().tr.base, before.base);
}

// As the entry code of a kernel looks at it: a base in the upper half is its own; else SWAPGS must bring it.
TEST_F(VmxHost, an_nmi_finds_the_base_of_gs_at_every_instruction) {
    constexpr u16 user_selector = 0x1b;
    constexpr u64 kernel = 0xffff'8880'0000'0000;
    machine().load_segment(gs, user_selector);
    machine().msrs[x86::msr::gs_base].value = kernel;
    machine().msrs[x86::msr::kernel_gs_base].value = 0x7fff'0000;
    create();
    vmx().then([](VmxGuest& g) { g.exit(BasicExit::cpuid, 0, 2); });
    begin();
    unsigned looked = 0;
    EXPECT_EQ(enter(), Entered::exited);
    machine().after_instruction = [&](const char* instruction) {
        const u64 base = machine().msrs[x86::msr::gs_base].value;
        const u64 found = base >> 63 != 0 ? base : machine().msrs[x86::msr::kernel_gs_base].value;
        EXPECT_EQ(found, kernel) << "behind " << instruction;
        ++looked;
    };
    const u32 changed = end();
    machine().after_instruction = nullptr;
    EXPECT_EQ(changed, 0u);
    EXPECT_GT(looked, 10u);
}

TEST_F(VmxHost, the_guest_runs_without_the_hosts_xss_and_the_host_has_it_again) {
    machine().msrs[x86::msr::xss].value = 0x1800;
    create();
    vmx().then([](VmxGuest&) { EXPECT_EQ(machine().msrs[x86::msr::xss].value, 0u); });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().msrs[x86::msr::xss].value, 0x1800u);
}

TEST_F(VmxHost, a_vmxon_that_faults_is_a_refusal_and_leaves_no_trace) {
    vmx().vmxon_faults = true;
    const u64 cr0 = machine().cr0, cr4 = machine().cr4;
    vmx::Cpu cpu;
    Status status;
    EXPECT_NO_THROW(status = cpu.enable(arena_, 0));
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(machine().cr0, cr0);
    EXPECT_EQ(machine().cr4, cr4);
    EXPECT_FALSE(vmx().operating());
    vmx().vmxon_faults = false;
    EXPECT_TRUE(cpu.enable(arena_, 0).ok()); // and it may be tried again
    EXPECT_TRUE(vmx().operating());
}

TEST_F(VmxHost, blocking_of_virtual_nmis_does_not_become_blocking_of_the_cpus) {
    policy_.reactions[static_cast<usize>(abi::Reason::nmi)].action = abi::Action::inject;
    create();
    constexpr u64 by_nmi = 8;
    vmx().then([&](VmxGuest& g) { // in the handler of an NMI
        g.set(Field::guest_interruptibility, by_nmi);
        g.exit(BasicExit::cpuid, 0, 2);
    });
    (void)run_once();
    ASSERT_EQ(vmx().get(Field::pin_based_controls) & vmx::pin::virtual_nmis, 0u);
    EXPECT_EQ(vmx().get(Field::guest_interruptibility) & by_nmi, 0u);
    begin(); // where the guest is in it still
    EXPECT_EQ(vmx().get(Field::guest_interruptibility) & by_nmi, by_nmi);
    (void)end();
}

} // namespace
} // namespace refhv::silicon
