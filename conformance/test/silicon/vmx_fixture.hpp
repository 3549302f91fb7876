// SPDX-License-Identifier: MIT
// One VM of the vendor's own code on the machine.
#pragma once

#include "conformance/test/silicon/guest_state.hpp"
#include "conformance/test/silicon/platform.hpp"
#include "refhv/vcpu/host_state.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

#include <gtest/gtest.h>
#include <memory>

namespace refhv::silicon {

class VmxTest : public testing::Test {
  protected:
    VmxTest() {
        machine().reset(Vendor::intel);
        vmx().reset();
        reset_memory((arena_pages + guest_pages) * page_size);
        arena_.init(physical_base, arena_pages * page_size);
    }

    // Makes the VM; what a test wants otherwise of the machine is set before.
    void create() {
        cpu_ = std::make_unique<vmx::Cpu>();
        vcpu_ = std::make_unique<vmx::Vcpu>(*cpu_);
        ASSERT_TRUE(vcpu_->create(arena_, memory_).ok());
        ASSERT_TRUE(vcpu_->load(memory_, state_).ok());
        before_ = x86::HostSnapshot::take(true);
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

    Arena arena_;
    GuestMemory memory_ = guest_memory();
    abi::GuestState state_ = long_mode_guest();
    Policy policy_{};
    std::unique_ptr<vmx::Cpu> cpu_;
    std::unique_ptr<vmx::Vcpu> vcpu_;
    x86::HostSnapshot before_{};
    u64 counts_[64]{};
    abi::Exit exit_{};
    abi::Refusal refusal_{};
};

} // namespace refhv::silicon
