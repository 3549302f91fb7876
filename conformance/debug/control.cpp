// SPDX-License-Identifier: MIT
// IA32_DEBUGCTL and the controls that load and save it and DR7.
#include "conformance/debug/case.hpp"

namespace refhv::front {

using client::Guest;

namespace {

constexpr u64 load_debug_controls = 1u << 2, save_debug_controls = 1u << 2;
constexpr u32 true_entry_controls = 0x490, true_exit_controls = 0x48f;

client::Plan open_debugctl() {
    client::Plan plan;
    plan.msrs.push_back({.vm = 0, .msr = debug::debugctl_msr, .read = 0, .write = 1, .zero = {}});
    return plan;
}

class DebugControl : public Debug {
  protected:
    // A 0-setting of the control, where the CPU has one (SDM 3D A.4, A.5).
    static void needs_off(u32 true_msr, u64 control) {
        if ((msr(hello(), true_msr) & control) != 0) {
            GTEST_SKIP() << "the control is always 1";
        }
    }
};

} // namespace

TEST_F(DebugControl, vmx_entry_loads_debugctl_and_the_exit_saves_it) {
    claim({.sdm = "SDM 3C 27.3.2.1, 28.3.1"}, [&] {
        for (const u64 value : {u64{0}, debug::debugctl_lbr}) {
            SCOPED_TRACE(value);
            Code code;
            code.add({0xb9, 0xd9, 0x01, 0x00, 0x00, 0x0f, 0x32}); // mov $1d9h, %ecx; rdmsr
            Guest guest(host(), open_debugctl());
            guest.load(code.code());
            guest.field(vmcs::guest_debugctl, 8, value);
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, 0u) << "RDMSR of IA32_DEBUGCTL; vector " << r.exceptions.vector;
            EXPECT_EQ(r.reply.state.gpr[abi::rax] & 0xffff'ffff, value) << "as the guest reads it";
            EXPECT_EQ(guest.read_field(vmcs::guest_debugctl, 8, false), value) << "as the exit saves it";
        }
        combinations(2);
    });
}

// Without the control DR7 is what an exit leaves: 400H.
TEST_F(DebugControl, vmx_entry_without_load_debug_controls_leaves_dr7) {
    claim({.sdm = "SDM 3C 27.3.2.1, 28.5.1"}, [&] {
        needs_off(true_entry_controls, load_debug_controls);
        for (const bool load : {true, false}) {
            SCOPED_TRACE(load ? "with the control" : "without it");
            Code code;
            code.add({0x0f, 0x21, 0xfb}); // mov %dr7, %rbx
            Guest guest(host(), client::Plan{});
            guest.load(code.code());
            guest.field(vmcs::guest_dr7, 8, debug::dr7_fixed | 0x300);
            change(guest, vmcs::entry_controls, load ? load_debug_controls : 0,
                   load ? 0 : load_debug_controls);
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.reply.state.gpr[abi::rbx], load ? debug::dr7_fixed | 0x300 : debug::dr7_fixed);
        }
        combinations(2);
    });
}

TEST_F(DebugControl, vmx_exit_without_save_debug_controls_leaves_both_fields) {
    claim({.sdm = "SDM 3C 28.3.1"}, [&] {
        needs_off(true_exit_controls, save_debug_controls);
        for (const bool save : {true, false}) {
            SCOPED_TRACE(save ? "with the control" : "without it");
            Code code;
            code.add({0x0f, 0x23, 0xff}); // mov %rdi, %dr7
            Guest guest(host(), open_debugctl());
            guest.load(code.code());
            guest.field(vmcs::guest_debugctl, 8, debug::debugctl_lbr);
            guest.field(vmcs::guest_dr7, 8, debug::dr7_fixed | 0x100);
            guest.state.gpr[abi::rdi] = debug::dr7_fixed | 0x200;
            change(guest, vmcs::exit_controls, save ? save_debug_controls : 0,
                   save ? 0 : save_debug_controls);
            const auto r = guest.run({});
            expect_stopped(r);
            const Guest::FieldOf fields[] = {{vmcs::guest_debugctl, 8}, {vmcs::guest_dr7, 8}};
            const auto seen = guest.read_fields(fields);
            EXPECT_EQ(seen[0], debug::debugctl_lbr) << "IA32_DEBUGCTL, which the guest did not write";
            EXPECT_EQ(seen[1], debug::dr7_fixed | (save ? 0x200 : 0x100)) << "DR7";
        }
        combinations(2);
    });
}

// BTF: a single-step trap behind a taken branch only. The #DB clears BTF, so that the handler's return makes
// every instruction trap again.
TEST_F(DebugControl, vmx_branch_steps_trap_behind_a_taken_branch) {
    claim({.sdm = "SDM 3B 18.4.1, 18.4.3; SDM 3C 27.3.2.1"}, [&] {
        Code code;
        code.add({0x90});
        const u64 second = code.add({0x90});
        const u64 jump = code.add({0xeb, 0x01, 0x90}); // over a byte
        const u64 behind_jump = code.add({0x90});
        const u64 push = code.add({0x6a, 0x02});
        const u64 popf = code.add({0x9d}); // TF off
        const u64 end = code.here();
        for (const bool branches : {false, true}) {
            SCOPED_TRACE(branches ? "BTF" : "no BTF: the premise");
            DebugGuest guest(host(), client::Plan{});
            guest.load(code.code());
            guest.state.rflags = 2 | debug::rflags_tf;
            guest.field(vmcs::guest_debugctl, 8, branches ? debug::debugctl_btf : 0);
            std::vector<TrapDue> due;
            if (!branches) {
                due.push_back({second, debug::single_step});
                due.push_back({jump, debug::single_step});
            }
            for (const u64 at : {behind_jump, push, popf, end}) {
                due.push_back({at, debug::single_step});
            }
            expect_traps(guest.run_and_read(), due);
        }
        combinations(2);
    });
}

} // namespace refhv::front
