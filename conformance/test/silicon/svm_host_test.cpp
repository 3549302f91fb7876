// SPDX-License-Identifier: MIT
// What a run on SVM must leave as it found it: APM 2 15.6, line by line.
#include "conformance/test/silicon/svm_fixture.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

namespace refhv::silicon {

namespace {

using svm::ExitCode;

class SvmHost : public SvmTest {};

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
    constexpr usize each = 200'000;
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

} // namespace
} // namespace refhv::silicon
