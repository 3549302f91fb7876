// SPDX-License-Identifier: MIT
// What a run in mode native must leave as it found it. The guest is a function that stands for
// native/enter.S.
#include "conformance/test/silicon/guest_state.hpp"
#include "conformance/test/silicon/machine.hpp"
#include "conformance/test/silicon/platform.hpp"
#include "refhv/native/vcpu.hpp"
#include "refhv/vcpu/host_state.hpp"

#include <gtest/gtest.h>

namespace refhv::native {

namespace {
std::function<void(Context&)> guest;
}

extern "C" void native_enter(Context* context);
extern "C" void native_enter(Context* context) {
    guest(*context);
}
extern "C" const u8 native_stubs[];
const u8 native_stubs[256 * NATIVE_STUB_SIZE]{};
extern "C" u32 native_missed_nmis;
u32 native_missed_nmis = 0;

} // namespace refhv::native

namespace refhv::silicon {

namespace {

class NativeHost : public testing::Test {
  protected:
    NativeHost() {
        machine().reset(Vendor::intel);
        reset_memory((arena_pages + guest_pages) * page_size);
        arena_.init(physical_base, arena_pages * page_size);
        machine().cr3 = arena_.allocate();
        machine().cr4 |= x86::cr4::pge;
        state_.segment[abi::cs].selector = 8;
        state_.segment[abi::ss].selector = 16;
        state_.idtr = {state_.cr3 + page_size, 0xfff, 0};
        state_.gdtr = {state_.cr3 + 2 * page_size, 0xff, 0};
        native::guest = [](native::Context& c) { c.vector = native::stop_vector; };
    }

    [[nodiscard]] u32 run_once() {
        const x86::HostSnapshot before = x86::HostSnapshot::take(true);
        EXPECT_TRUE(vcpu_.create(arena_, memory_).ok());
        EXPECT_TRUE(vcpu_.load(memory_, state_).ok());
        EXPECT_TRUE(vcpu_.begin(memory_, {policy_, 0, nullptr}).ok());
        u64 handled = 0;
        abi::Refusal refusal{};
        (void)vcpu_.enter(0, nullptr, handled, exit_, refusal);
        vcpu_.end();
        return x86::HostSnapshot::take(true).differences(before);
    }

    Arena arena_;
    GuestMemory memory_ = guest_memory();
    abi::GuestState state_ = long_mode_guest();
    Policy policy_{};
    native::Vcpu vcpu_;
    abi::Exit exit_{};
};

TEST_F(NativeHost, a_run_leaves_everything_alone) {
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(static_cast<abi::Reason>(exit_.reason), abi::Reason::int_n);
}

// A guest that has used VMX itself leaves TR as a VM exit loads it (SDM 3C 28.5.2).
TEST_F(NativeHost, the_task_register_is_loaded_anew) {
    const u64 base = machine().tr.base;
    const u32 limit = machine().tr.limit;
    native::guest = [](native::Context& c) {
        machine().tr.base = 0x1234'5000;
        machine().tr.limit = 0x67;
        c.vector = native::stop_vector;
    };
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(machine().tr.base, base);
    EXPECT_EQ(machine().tr.limit, limit);
}

TEST_F(NativeHost, breakpoints_are_off_while_their_addresses_are_the_guests) {
    machine().dr7 = 0x401;
    machine().dr[0] = 0x1234;
    native::guest = [](native::Context& c) {
        machine().dr7 = 0x401; // the guest's own
        machine().dr[0] = 0x99;
        c.vector = native::stop_vector;
    };
    machine().after_instruction = [](const char* instruction) {
        EXPECT_TRUE(machine().dr[0] == 0x1234 || (machine().dr7 & 1) == 0) << "behind " << instruction;
    };
    const u32 changed = run_once();
    machine().after_instruction = nullptr;
    EXPECT_EQ(changed, 0u);
    EXPECT_EQ(machine().dr7, 0x401u);
}

TEST_F(NativeHost, global_translations_end_with_the_run) {
    bool left = false, dropped = false;
    native::guest = [&](native::Context& c) {
        left = true;
        c.vector = native::stop_vector;
    };
    machine().after_instruction = [&](const char*) {
        dropped = dropped || (left && (machine().cr4 & x86::cr4::pge) == 0);
    };
    const u32 changed = run_once();
    machine().after_instruction = nullptr;
    EXPECT_EQ(changed, 0u);
    EXPECT_TRUE(dropped);
}

TEST_F(NativeHost, a_machine_check_is_the_hosts) {
    native::guest = [](native::Context& c) { c.vector = x86::vector::machine_check; };
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(asked.machine_checks, 1u);
}

TEST_F(NativeHost, nmis_on_the_way_out_are_handed_on) {
    native::guest = [](native::Context& c) {
        native::native_missed_nmis = 2;
        c.vector = x86::vector::nmi;
    };
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(asked.nmis, 3u);
}

TEST_F(NativeHost, a_host_that_a_guest_cannot_stand_in_for_is_a_refusal) {
    for (const u64 bit : {x86::cr4::la57, x86::cr4::cet, x86::cr4::lass, x86::cr4::fred}) {
        machine().cr4 |= bit;
        EXPECT_FALSE(vcpu_.create(arena_, memory_).ok()) << bit;
        machine().cr4 &= ~bit;
    }
    EXPECT_EQ(run_once(), 0u);
}

TEST_F(NativeHost, selectors_that_the_hosts_gdt_has_not_are_a_refusal) {
    state_.segment[abi::cs].selector = 16; // data there
    ASSERT_TRUE(vcpu_.create(arena_, memory_).ok());
    ASSERT_TRUE(vcpu_.load(memory_, state_).ok());
    EXPECT_FALSE(vcpu_.begin(memory_, {policy_, 0, nullptr}).ok());
}

} // namespace
} // namespace refhv::silicon
