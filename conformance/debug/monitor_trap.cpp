// SPDX-License-Identifier: MIT
// The monitor trap flag over every kind of instruction: where it exits, and which debug exceptions are
// pending then (it goes before debug traps).
#include "conformance/debug/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

constexpr u64 enabled_breakpoint = 1u << 12;

struct Trapped {
    std::vector<u8> bytes;
    u64 at;          // RIP of the exit, behind layout::code; or an address
    u64 pending = 0; // debug exceptions
    u64 flags = 0;   // RFLAGS beside bit 1
    u64 dr7 = debug::dr7_fixed;
    u64 dr0 = 0;
    u64 rcx = 0, rcx_after = 0;
    u64 blocking = 0; // saved interruptibility
    Reason instead = Reason::none;
};

u64 stub(unsigned vector) {
    return layout::vectors + 16u * vector;
}

class DebugMonitorTrap : public Debug {
  protected:
    void exits(const Trapped& t) {
        claim({.sdm = "SDM 3C 26.5.2, 28.3.4"}, [&] {
            if (!offers(vmcs::proc_controls, vmcs::proc_monitor_trap)) {
                GTEST_SKIP() << "no monitor trap flag";
            }
            Guest guest(host(), client::Plan{});
            change(guest, vmcs::proc_controls, vmcs::proc_monitor_trap);
            guest.load({t.bytes.data(), t.bytes.data() + t.bytes.size()});
            guest.state.rflags = 2 | t.flags;
            guest.state.dr[0] = t.dr0;
            guest.state.dr7 = t.dr7;
            guest.state.gpr[abi::rcx] = t.rcx;
            guest.state.gpr[abi::rsi] = guest.state.gpr[abi::rdi] = REFHV_SCRATCH;
            guest.state.gpr[abi::r11] = layout::data;
            const auto r = guest.run({});
            expect_exit(r, t.instead != Reason::none ? t.instead : Reason::monitor_trap,
                        t.at < layout::base ? layout::code + t.at : t.at);
            const Guest::FieldOf fields[] = {{vmcs::pending_debug, 8}, {vmcs::interruptibility, 4}};
            const auto saved = guest.read_fields(fields);
            EXPECT_EQ(saved[0], t.pending) << "pending debug exceptions";
            EXPECT_EQ(saved[1], t.blocking) << "interruptibility state";
            EXPECT_EQ(r.reply.state.gpr[abi::rcx], t.rcx_after);
            EXPECT_EQ(r.reply.state.dr6, debug::dr6_clear);
        });
    }
};

} // namespace

#define TRAPPED(name, ...)                                                                                   \
    TEST_F(DebugMonitorTrap, vmx_##name) {                                                                   \
        exits({__VA_ARGS__});                                                                                \
    }

TRAPPED(behind_a_nop, .bytes = {0x90}, .at = 1)
TRAPPED(behind_a_jump, .bytes = {0xeb, 0x02, 0x90, 0x90}, .at = 4)
TRAPPED(behind_each_iteration, .bytes = {0xf3, 0xaa}, .at = 0, .rcx = 3, .rcx_after = 2)
TRAPPED(behind_the_last_iteration, .bytes = {0xf3, 0xaa}, .at = 2, .rcx = 1)
TRAPPED(behind_no_iteration, .bytes = {0xf3, 0xaa}, .at = 2)
TRAPPED(behind_sti, .bytes = {0xfb, 0x90}, .at = 1, .blocking = vmcs::blocking_by_sti)
TRAPPED(behind_mov_ss, .bytes = {0x41, 0x8e, 0xd3, 0x90}, .at = 3, .blocking = vmcs::blocking_by_mov_ss)
TRAPPED(before_a_single_step_trap, .bytes = {0x90, 0x90}, .at = 1, .pending = debug::single_step,
        .flags = debug::rflags_tf)
TRAPPED(before_a_data_breakpoint, .bytes = {0x88, 0x06}, .at = 2, .pending = enabled_breakpoint | 1,
        .dr7 = debug::dr7_with(0, debug::Kind::write, 1), .dr0 = REFHV_SCRATCH)
TRAPPED(behind_the_delivery_of_a_fault, .bytes = {0x0f, 0x0b}, .at = stub(6))
TRAPPED(behind_the_delivery_of_a_software_interrupt, .bytes = {0xcd, 0x1c}, .at = stub(28))
TRAPPED(behind_the_delivery_of_int3, .bytes = {0xcc}, .at = stub(3))
TRAPPED(not_where_the_instruction_exits, .bytes = {0x0f, 0xa2}, .at = 0, .instead = Reason::cpuid)
TRAPPED(not_where_hlt_exits, .bytes = {0xf4}, .at = 0, .instead = Reason::hlt)

// What was pending is delivered by the next entry, before an instruction.
TEST_F(DebugMonitorTrap, vmx_leaves_a_trap_that_the_next_entry_delivers) {
    claim({.sdm = "SDM 3C 26.5.2, 27.7.3"}, [&] {
        if (!offers(vmcs::proc_controls, vmcs::proc_monitor_trap)) {
            GTEST_SKIP() << "no monitor trap flag";
        }
        Code code;
        code.add({0x88, 0x06, 0x90});
        DebugGuest guest(host(), client::Plan{});
        change(guest, vmcs::proc_controls, vmcs::proc_monitor_trap);
        guest.load(code.code());
        guest.state.gpr[abi::rsi] = guest.state.dr[1] = REFHV_SCRATCH;
        guest.state.dr7 = debug::dr7_with(1, debug::Kind::write, 1);
        expect_exit(guest.run({}), Reason::monitor_trap, layout::code + 2);
        change(guest, vmcs::proc_controls, 0, vmcs::proc_monitor_trap);
        expect_traps(guest.run_and_read({.set_state = false}), {{layout::code + 2, 2}});
    });
}

} // namespace refhv::front
