// SPDX-License-Identifier: MIT
// What a run on VMX must leave as it found it: SDM 3C 28.5, line by line.
#include "conformance/test/silicon/vmx_fixture.hpp"
#include "refhv/vcpu/host_interrupt.hpp"

namespace refhv::silicon {

namespace {

using vmx::BasicExit;
using vmx::Field;

class VmxHost : public VmxTest {};

// In a window of a run on a platform that needs them; and what the host changes there is not taken back.
TEST_F(VmxHost, the_host_has_its_registers_in_a_window_and_the_guest_its_own_behind_it) {
    machine().dr7 = 0x401;
    machine().dr[0] = 0x1234;
    state_.dr[0] = 0x5678;
    state_.tsc_aux = 7;
    create();
    for (unsigned i = 0; i < 2; ++i) {
        vmx().then([](VmxGuest& g) { g.exit(BasicExit::cpuid, 0, 2); });
    }
    begin();
    EXPECT_EQ(machine().dr[0], 0x5678u);
    EXPECT_EQ(enter(), Entered::exited);
    vcpu_->give_registers();
    EXPECT_EQ(x86::HostSnapshot::take(true).differences(before_), 0u);
    machine().dr[0] = 0x4321; // Linux moves a breakpoint, and somebody else's task has other tables
    machine().cr3 = 0x7000;
    before_ = x86::HostSnapshot::take(true);
    vcpu_->take_registers();
    EXPECT_EQ(machine().dr[0], 0x5678u);
    EXPECT_EQ(machine().msrs[x86::msr::tsc_aux].value, 7u);
    EXPECT_EQ(machine().dr7, 0x400u);
    EXPECT_EQ(enter(), Entered::exited);
    EXPECT_EQ(end(), 0u);
    EXPECT_EQ(machine().dr[0], 0x4321u);
    EXPECT_EQ(machine().dr7, 0x401u);
    EXPECT_EQ(machine().cr3, 0x7000u);
}

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
TEST_F(VmxHost, translations_end_with_the_paging_registers_that_they_came_from) {
    create();
    ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
    const u64 before = vmx().invvpids;
    state_.rip += 2;
    ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
    EXPECT_EQ(vmx().invvpids, before) << "no paging register is another";
    state_.cr3 += page_size;
    ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
    EXPECT_EQ(vmx().invvpids, before + 1);
    state_.cr0 ^= x86::cr0::wp;
    ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
    EXPECT_EQ(vmx().invvpids, before + 2);
}

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

// Written by the CPU at a guest's #NM, which does not exit.
TEST_F(VmxHost, the_hosts_handler_finds_no_cause_of_a_guests_nm) {
    create();
    static constexpr u64 tile_data = 1u << 18;
    vmx().then([](VmxGuest&) { machine().msrs[x86::msr::xfd_err].value = tile_data; });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().msrs[x86::msr::xfd_err].value, 0u);
    vmx().then([](VmxGuest&) { EXPECT_EQ(machine().msrs[x86::msr::xfd_err].value, tile_data); });
    EXPECT_EQ(run_once(), 0u);
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

TEST_F(VmxHost, a_cpu_leaves_vmx_operation_as_it_came) {
    machine().cr0 &= ~x86::cr0::ne; // VMX operation needs it
    const u64 cr0 = machine().cr0, cr4 = machine().cr4, pages = arena_.pages_in_use();
    vmx::Cpu cpu;
    cpu.disable(arena_, 0);
    for (unsigned i = 0; i < 2; ++i) {
        ASSERT_TRUE(cpu.enable(arena_, 0).ok());
        EXPECT_TRUE(vmx().operating());
        EXPECT_NE(machine().cr0, cr0);
        EXPECT_NE(machine().cr4, cr4);
        machine().cr4 |= x86::cr4::smap; // the host goes on
        cpu.disable(arena_, 0);
        EXPECT_FALSE(vmx().operating());
        EXPECT_EQ(machine().cr0, cr0);
        EXPECT_EQ(machine().cr4, cr4 | x86::cr4::smap);
        machine().cr4 = cr4;
        EXPECT_EQ(arena_.pages_in_use(), pages);
        EXPECT_EQ(vmx::Cpu::probe().status, abi::BackendStatus::usable);
    }
}

TEST_F(VmxHost, a_feature_control_that_cannot_be_written_or_may_not_be_is_a_refusal) {
    machine().msrs[x86::msr::feature_control] = {0};
    vmx::Cpu cpu;
    EXPECT_FALSE(cpu.enable(arena_, 0).ok()); // for good, and nobody has permitted it
    EXPECT_EQ(machine().msrs[x86::msr::feature_control].value, 0u);
    permissions = permit_all;
    machine().msrs[x86::msr::feature_control] = {0, ~u64{0}}; // a hypervisor below refuses the write
    Status status;
    EXPECT_NO_THROW(status = cpu.enable(arena_, 0));
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(vmx().operating());
    machine().msrs[x86::msr::feature_control] = {0};
    EXPECT_TRUE(cpu.enable(arena_, 0).ok());
    EXPECT_EQ(machine().msrs[x86::msr::feature_control].value, 5u);
}

TEST_F(VmxHost, what_vmx_would_take_from_the_host_is_a_refusal) {
    constexpr u64 forbidden = u64{1} << 27;
    machine().cr4 |= forbidden;
    vmx::Cpu cpu;
    EXPECT_FALSE(cpu.enable(arena_, 0).ok());
    EXPECT_NE(machine().cr4 & forbidden, 0u);
    machine().cr4 &= ~forbidden;
    machine().msrs[x86::msr::vmx_ept_vpid].value &= ~(u64{3} << 25); // no INVEPT
    EXPECT_EQ(vmx::Cpu::probe().status, abi::BackendStatus::lacking);
}

// As a window may: the host's tables are others, a feature is on.
TEST_F(VmxHost, an_exit_brings_back_the_cr3_and_cr4_that_the_host_had_last) {
    create();
    for (unsigned i = 0; i < 2; ++i) {
        vmx().then([](VmxGuest& g) { g.exit(BasicExit::cpuid, 0, 2); });
    }
    begin();
    EXPECT_EQ(enter(), Entered::exited);
    machine().cr3 = 0x7000;
    machine().cr4 |= x86::cr4::pce;
    const u64 cr4 = machine().cr4;
    EXPECT_EQ(enter(), Entered::exited);
    EXPECT_EQ(machine().cr3, 0x7000u);
    EXPECT_EQ(machine().cr4, cr4);
    (void)end();
}

// Each line of the table in docs/core.md that restore_host_state answers for.
TEST_F(VmxHost, selectors_and_debug_state_come_back) {
    constexpr u16 user_selector = 0x1b;
    for (const Selector which : {ds, es, fs}) {
        machine().load_segment(which, user_selector);
    }
    machine().msrs[x86::msr::fs_base].value = 0x7fff'0000;
    machine().ldtr = 0x28;
    machine().dr7 = 0x455;
    machine().dr[0] = 0x1234;
    machine().dr[3] = 0x5678;
    machine().msrs[x86::msr::debugctl].value = 1;
    create();
    vmx().then([](VmxGuest&) { EXPECT_EQ(machine().dr7, 0x400u); });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().dr7, 0x455u);
    EXPECT_EQ(machine().ldtr, 0x28u);
    EXPECT_EQ(machine().msrs[x86::msr::debugctl].value, 1u);
}

// No breakpoint of the host's may be on while its addresses are the guest's.
TEST_F(VmxHost, breakpoints_are_off_while_their_addresses_are_the_guests) {
    machine().dr7 = 0x401;
    machine().dr[0] = 0x1234;
    create();
    machine().after_instruction = [](const char* instruction) {
        EXPECT_TRUE(machine().dr[0] == 0x1234 || (machine().dr7 & 0xff) == 0) << "behind " << instruction;
    };
    const u32 changed = run_once();
    machine().after_instruction = nullptr;
    EXPECT_EQ(changed, 0u);
}

TEST_F(VmxHost, an_nmi_that_ended_guest_mode_reaches_the_host) {
    create();
    vmx().then([](VmxGuest& g) { g.nmi(); });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::nmi);
    EXPECT_EQ(asked.nmis, 1u);
}

TEST_F(VmxHost, an_interrupt_that_the_exit_acknowledged_reaches_the_host) {
    create();
    permissions = permit_all;
    const u64 controls = vmx().get(Field::exit_controls) | vmx::exit_control::ack_interrupt;
    vmx().set(Field::exit_controls, controls);
    x86::delivered_to_host.clear();
    vmx().then([](VmxGuest& g) {
        g.exit(BasicExit::external_interrupt);
        g.set(Field::exit_interruption_info, u64{1} << 31 | 0x51);
    });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(x86::delivered_to_host, (std::vector<u8>{0x51}));
}

TEST_F(VmxHost, an_nmi_that_a_guest_is_given_blocks_none_of_the_hosts) {
    create();
    begin();
    EXPECT_TRUE(vcpu_->deliver(nmi_event));
    EXPECT_EQ(enter(), Entered::exited);
    ASSERT_FALSE(vmx().injected.empty());
    EXPECT_FALSE(vmx().nmis_blocked);
    (void)end();
}

// Every line of HostSnapshot that a run could change without one of the tests above.
TEST_F(VmxHost, a_snapshot_sees_what_differs) {
    const auto differs = [](auto change) {
        const x86::HostSnapshot before = x86::HostSnapshot::take(true);
        const Machine kept = machine();
        change(machine());
        const u32 bits = x86::HostSnapshot::take(true).differences(before);
        machine() = kept;
        return bits;
    };
    using namespace abi;
    EXPECT_EQ(differs([](Machine&) {}), 0u);
    EXPECT_EQ(differs([](Machine& m) { m.cr8 = 1; }), host_cr8);
    for (unsigned i = 0; i < 4; ++i) {
        EXPECT_EQ(differs([=](Machine& m) { m.dr[i] = 1; }), host_debug_registers);
    }
    EXPECT_EQ(differs([](Machine& m) { m.dr6 ^= 1; }), host_debug_registers);
    EXPECT_EQ(differs([](Machine& m) { m.msrs[x86::msr::debugctl].value = 1; }), host_debugctl);
    EXPECT_EQ(differs([](Machine& m) { m.msrs[x86::msr::xss].value = 0x800; }), host_xss);
    EXPECT_EQ(differs([](Machine& m) { m.msrs[x86::msr::spec_ctrl].value = 0; }), host_spec_ctrl);
    EXPECT_EQ(differs([](Machine& m) { m.msrs[x86::msr::u_cet].value = 1; }), host_u_cet);
    EXPECT_EQ(differs([](Machine& m) { m.pkru = 4; }), host_pkru);
    EXPECT_EQ(differs([](Machine& m) { m.gdtr.limit = 0xffff; }), host_gdtr);
    EXPECT_EQ(differs([](Machine& m) { m.ldtr = 0x28; }), host_selectors);
    EXPECT_EQ(differs([](Machine& m) {
                  *reinterpret_cast<u64*>(m.gdtr.base + (m.tr.selector & ~7)) ^= 8; // the limit
              }),
              host_tss);
    machine().reset(Vendor::intel); // the GDT is memory
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
