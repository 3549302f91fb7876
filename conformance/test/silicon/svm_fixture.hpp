// SPDX-License-Identifier: MIT
// One VM of the vendor's own code on the machine.
#pragma once

#include "conformance/test/silicon/guest_state.hpp"
#include "conformance/test/silicon/platform.hpp"
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"
#include "refhv/vcpu/host_state.hpp"

#include <gtest/gtest.h>
#include <memory>

namespace refhv::silicon {

class SvmTest : public testing::Test {
  protected:
    SvmTest() {
        machine().reset(Vendor::amd);
        svm().reset();
        reset_memory((arena_pages + guest_pages) * page_size);
        arena_.init(physical_base, arena_pages * page_size);
        svm().probe = memory_.gpa_base + page_size;
    }

    // Makes the VM; what a test wants otherwise of the machine is set before.
    void create() {
        cpu_ = std::make_unique<svm::Cpu>();
        vcpu_ = make();
        ASSERT_NE(vcpu_, nullptr);
        before_ = x86::HostSnapshot::take(true);
    }
    [[nodiscard]] std::unique_ptr<svm::Vcpu> make() {
        auto vcpu = std::make_unique<svm::Vcpu>(*cpu_);
        const bool made = vcpu->create(arena_, memory_).ok() && vcpu->load(memory_, state_).ok();
        return made ? std::move(vcpu) : nullptr;
    }

    void begin() { ASSERT_TRUE(vcpu_->begin(memory_, {policy_, 0, nullptr}).ok()); }

    [[nodiscard]] Entered enter() {
        u64 handled = 0;
        return vcpu_->enter(0, counts_, handled, exit_, refusal_);
    }
    [[nodiscard]] abi::Reason reason() const { return static_cast<abi::Reason>(exit_.reason); }

    // Ends the run and says what it has changed of the host.
    [[nodiscard]] u32 end() {
        vcpu_->end();
        return x86::HostSnapshot::take(true).differences(before_);
    }

    // A run of what the machine's guest does, with one exit.
    [[nodiscard]] u32 run_once() {
        begin();
        EXPECT_EQ(enter(), Entered::exited);
        return end();
    }

    void begin_and_run(svm::Vcpu& vcpu) {
        u64 handled = 0;
        ASSERT_TRUE(vcpu.begin(memory_, {policy_, 0, nullptr}).ok());
        EXPECT_EQ(vcpu.enter(0, counts_, handled, exit_, refusal_), Entered::exited);
        vcpu.end();
    }

    Arena arena_;
    GuestMemory memory_ = guest_memory();
    abi::GuestState state_ = long_mode_guest();
    Policy policy_{};
    std::unique_ptr<svm::Cpu> cpu_;
    std::unique_ptr<svm::Vcpu> vcpu_;
    x86::HostSnapshot before_{};
    u64 counts_[64]{};
    abi::Exit exit_{};
    abi::Refusal refusal_{};
};

} // namespace refhv::silicon
