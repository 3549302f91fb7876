// SPDX-License-Identifier: MIT
// What a run on SVM must leave as it found it: APM 2 15.6, line by line.
#include "conformance/test/silicon/svm_fixture.hpp"

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
