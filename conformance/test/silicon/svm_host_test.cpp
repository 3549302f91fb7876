// SPDX-License-Identifier: MIT
// What a run on SVM must leave as it found it: APM 2 15.6, line by line.
#include "conformance/test/silicon/svm_fixture.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

namespace refhv::silicon {

namespace {

class SvmHost : public SvmTest {};

// In a window of a run on a platform that needs them; and what the host changes there is not taken back.
TEST_F(SvmHost, the_host_has_its_registers_in_a_window_and_the_guest_its_own_behind_it) {
    machine().dr7 = 0x401;
    machine().dr[0] = 0x1234;
    state_.dr[0] = 0x5678;
    state_.tsc_aux = 7;
    create();
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

TEST_F(SvmHost, a_run_leaves_everything_alone) {
    create();
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::triple_fault);
    EXPECT_EQ(svm().root, memory_.hpa_base + page_size);
}

TEST_F(SvmHost, nested_tables_have_five_levels_where_the_hosts_have) {
    machine().cr4 |= x86::cr4::la57;
    create();
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(svm().root, memory_.hpa_base + page_size);
    vcpu_->destroy(arena_);
}

// What a run could change without any other sign of it.
TEST_F(SvmHost, a_snapshot_sees_every_register_that_the_host_would_miss) {
    Machine& m = machine();
    const auto msr = [&](u32 index) { return &m.msrs[index].value; };
    struct Change {
        u64* at;
        u32 bit;
    };
    const Change changes[] = {
        {&m.cr0, abi::host_cr0},
        {&m.cr3, abi::host_cr3},
        {&m.cr4, abi::host_cr4},
        {msr(x86::msr::efer), abi::host_efer},
        {&m.gdtr.base, abi::host_gdtr},
        {&m.idtr.base, abi::host_idtr},
        {msr(x86::msr::fs_base), abi::host_fs_gs_base},
        {msr(x86::msr::gs_base), abi::host_fs_gs_base},
        {&m.dr7, abi::host_dr7},
        {&m.xcr0, abi::host_xcr0},
        {msr(x86::msr::star), abi::host_syscall_msrs},
        {msr(x86::msr::lstar), abi::host_syscall_msrs},
        {msr(x86::msr::cstar), abi::host_syscall_msrs},
        {msr(x86::msr::sfmask), abi::host_syscall_msrs},
        {msr(x86::msr::kernel_gs_base), abi::host_syscall_msrs},
        {msr(x86::msr::sysenter_cs), abi::host_sysenter_msrs},
        {msr(x86::msr::sysenter_esp), abi::host_sysenter_msrs},
        {msr(x86::msr::sysenter_eip), abi::host_sysenter_msrs},
        {msr(x86::msr::pat), abi::host_pat},
        {msr(x86::msr::tsc_aux), abi::host_tsc_aux},
        {&m.cr8, abi::host_cr8},
        {&m.dr[0], abi::host_debug_registers},
        {&m.dr[1], abi::host_debug_registers},
        {&m.dr[2], abi::host_debug_registers},
        {&m.dr[3], abi::host_debug_registers},
        {&m.dr6, abi::host_debug_registers},
        {msr(x86::msr::debugctl), abi::host_debugctl},
        {msr(x86::msr::xss), abi::host_xss},
        {msr(x86::msr::spec_ctrl), abi::host_spec_ctrl},
        {msr(x86::msr::u_cet), abi::host_u_cet},
        {reinterpret_cast<u64*>(m.gdtr.base) + m.tr.selector / 8, abi::host_tss}, // the limit's lowest bit
    };
    const auto before = x86::HostSnapshot::take(true);
    for (const Change& c : changes) {
        const bool is_gdtr = c.at == &m.gdtr.base;
        *c.at ^= is_gdtr ? 8 : 1;
        const u32 seen = x86::HostSnapshot::take(true).differences(before);
        EXPECT_EQ(is_gdtr ? seen & c.bit : seen, c.bit);
        *c.at ^= is_gdtr ? 8 : 1;
    }
    m.pkru ^= 1;
    EXPECT_EQ(x86::HostSnapshot::take(true).differences(before), u32{abi::host_pkru});
    m.pkru ^= 1;
    m.ldtr ^= 8;
    EXPECT_EQ(x86::HostSnapshot::take(true).differences(before), u32{abi::host_selectors});
}

// XSETBV that nobody intercepts, by a guest whose state says nothing of XCR0.
TEST_F(SvmHost, xcr0_comes_back_whoever_wrote_it) {
    permissions = permit_all;
    state_.xcr0 = 0;
    state_.cr4 |= x86::cr4::osxsave;
    create();
    svm().then([](SvmGuest& g) { g.xsetbv(1); });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().xcr0, 7u);
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.xcr0, 1u);
    EXPECT_EQ(run_once(), 0u);
}

TEST_F(SvmHost, a_guest_never_runs_on_the_translations_of_another) {
    create();
    EXPECT_EQ(run_once(), 0u);
    const auto first = std::move(vcpu_);
    for (unsigned i = 0; i < 20; ++i) { // there are 8 ASIDs
        vcpu_ = make();
        ASSERT_NE(vcpu_, nullptr);
        EXPECT_EQ(run_once(), 0u);
        EXPECT_FALSE(svm().stale) << i;
        vcpu_->destroy(arena_);
        vcpu_ = nullptr;
        begin_and_run(*first);
        EXPECT_FALSE(svm().stale) << i;
    }
}

// Of a client that has given the VM another ASID, which the floor takes back.
TEST_F(SvmHost, nor_does_one_whose_client_wrote_an_asid) {
    create();
    EXPECT_EQ(run_once(), 0u);
    permissions = {u64{1} << static_cast<u8>(Permit::translations)};
    abi::FieldReply reply{};
    ASSERT_TRUE(
        vcpu_->field(memory_, {.vm = 0, .field = 0x58, .width = 4, .zero = 0, .value = 7}, true, reply).ok());
    permissions = {};
    const auto first = std::move(vcpu_);
    for (unsigned i = 0; i < 8; ++i) {
        vcpu_ = make();
        EXPECT_EQ(run_once(), 0u);
        vcpu_->destroy(arena_);
    }
    begin_and_run(*first);
    EXPECT_FALSE(svm().stale);
}

TEST_F(SvmHost, two_cpus_never_take_the_same_asid_of_a_round) {
    create();
    constexpr usize each = 500'000;
    std::vector<u64> taken(2 * each);
    std::atomic<unsigned> ready = 0;
    const auto take = [&](usize from) {
        for (++ready; ready < 2;) {
        }
        for (usize i = from; i < from + each; ++i) {
            const svm::Cpu::Tag tag = cpu_->fresh_tag();
            taken[i] = tag.round << 32 | tag.asid;
        }
    };
    std::thread other(take, each);
    take(0);
    other.join();
    std::sort(taken.begin(), taken.end());
    EXPECT_EQ(std::adjacent_find(taken.begin(), taken.end()), taken.end());
}

TEST_F(SvmHost, translations_end_with_the_paging_registers_that_they_came_from) {
    create();
    EXPECT_EQ(run_once(), 0u);
    state_.cr3 += page_size;
    ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
    EXPECT_EQ(run_once(), 0u);
    EXPECT_FALSE(svm().stale) << "a state";
    abi::FieldReply reply{};
    const auto write = [&](u32 field, u64 value) {
        return vcpu_
            ->field(memory_, {.vm = 0, .field = field, .width = 8, .zero = 0, .value = value}, true, reply)
            .ok();
    };
    ASSERT_TRUE(write(0x550, state_.cr3 + page_size));
    EXPECT_EQ(run_once(), 0u);
    ASSERT_TRUE(write(0x558, state_.cr0 & ~x86::cr0::wp));
    EXPECT_EQ(run_once(), 0u);
    EXPECT_FALSE(svm().stale) << "a raw field";
}

// A process of 32 bits has left them behind; the guest's LDTR is null when the CPU loads them again.
TEST_F(SvmHost, selectors_of_the_hosts_ldt_are_out_of_the_way_of_an_exit) {
    machine().ldtr = 0x50;
    machine().selectors[es] = 0x0f;
    machine().selectors[ds] = 0x17;
    create();
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().selectors[es], 0x0f);
    EXPECT_EQ(machine().selectors[ds], 0x17);
}

TEST_F(SvmHost, a_host_that_encrypts_its_memory_is_refused) {
    constexpr unsigned c_bit = 47;
    machine().cpuid[u64{0x8000'001f} << 32] = {0x8000'001f, 0, 1, c_bit, 0, 0};
    EXPECT_EQ(svm::Cpu::probe().status, abi::BackendStatus::usable) << "it could, and does not";
    machine().cr3 |= u64{1} << c_bit;
    EXPECT_EQ(svm::Cpu::probe().status, abi::BackendStatus::lacking);
}

TEST_F(SvmHost, a_cpu_leaves_svm_as_it_came) {
    const u64 efer = machine().msrs[x86::msr::efer].value, pages = arena_.pages_in_use();
    svm::Cpu cpu;
    cpu.disable(arena_, 0);
    for (unsigned i = 0; i < 2; ++i) {
        ASSERT_TRUE(cpu.enable(arena_, 0).ok());
        EXPECT_EQ(machine().msrs[x86::msr::efer].value, efer | x86::efer::svme);
        cpu.flushed(0, 1);
        cpu.disable(arena_, 0);
        EXPECT_EQ(machine().msrs[x86::msr::efer].value, efer);
        EXPECT_EQ(machine().msrs[x86::msr::vm_hsave_pa].value, 0u);
        EXPECT_EQ(arena_.pages_in_use(), pages);
        EXPECT_TRUE(cpu.is_flush_due(0, 1)) << "others may have used SVM since";
        EXPECT_EQ(svm::Cpu::probe().status, abi::BackendStatus::usable);
    }
}

TEST_F(SvmHost, an_enable_that_failed_half_way_is_tried_again) {
    Arena small;
    small.init(physical_base, 2 * page_size); // its own, and one page of the two
    svm::Cpu cpu;
    EXPECT_FALSE(cpu.enable(small, 0).ok());
    EXPECT_EQ(machine().msrs[x86::msr::vm_hsave_pa].value, 0u);
    EXPECT_FALSE(cpu.enable(small, 0).ok());
    EXPECT_NE(small.allocate(), 0u); // which is back
    EXPECT_TRUE(cpu.enable(arena_, 0).ok());
    EXPECT_NE(machine().msrs[x86::msr::vm_hsave_pa].value, 0u);
    EXPECT_NE(cpu.host_vmcb(0), 0u);
}

// As a hypervisor underneath may: SVM that was turned on for nothing is off again.
TEST_F(SvmHost, an_enable_that_is_refused_a_register_leaves_the_cpu_as_it_was) {
    const u64 efer = machine().msrs[x86::msr::efer].value, pages = arena_.pages_in_use();
    for (const u32 index : {x86::msr::vm_hsave_pa, x86::msr::efer}) {
        const auto as_it_was = machine().msrs[index];
        machine().msrs[index].reserved = ~as_it_was.value;
        svm::Cpu cpu;
        const Status refused = cpu.enable(arena_, 0);
        EXPECT_FALSE(refused.ok());
        EXPECT_EQ(machine().msrs[x86::msr::efer].value, efer);
        EXPECT_EQ(arena_.pages_in_use(), pages);
        EXPECT_EQ(svm::Cpu::probe().status, abi::BackendStatus::usable);
        machine().msrs[index] = as_it_was;
        EXPECT_TRUE(cpu.enable(arena_, 0).ok());
        cpu.disable(arena_, 0);
    }
}

} // namespace
} // namespace refhv::silicon
