// SPDX-License-Identifier: MIT
// RFLAGS.TF over every kind of instruction, set by the entry, with nothing intercepted and with everything
// that can be; and RFLAGS.RF.
#include "conformance/debug/case.hpp"

namespace refhv::front {

using abi::Intercept;
using abi::Reason;
namespace layout = client::layout;

namespace {

// An instruction between two NOPs, and how many single-step traps it makes by itself.
struct Stepped {
    std::vector<u8> bytes;
    unsigned traps = 1; // 0: its own goes behind the next instruction (MOV SS, POP SS)
    u64 rcx = 0;
    bool vmx_only = false; // APM 2 15.21.5: the shadow of STI may hold a debug trap back
    u64 exits = 0;         // Intercept bits that make it exit
    Reason reason = Reason::none;
};

// nop; the instruction; nop; and TF off, so that the exit at the end says nothing about it. The traps.
struct Program {
    Code code;
    std::vector<TrapDue> due;
    u64 at;

    explicit Program(const Stepped& s) {
        code.add({0x90});
        due.push_back({code.here(), debug::single_step});
        at = code.here();
        for (const u8 byte : s.bytes) {
            code.add({byte});
        }
        for (unsigned i = 1; i < s.traps; ++i) {
            due.push_back({at, debug::single_step});
        }
        if (s.traps != 0) {
            due.push_back({code.here(), debug::single_step});
        }
        for (const std::initializer_list<unsigned> bytes :
             {std::initializer_list<unsigned>{0x90}, {0x6a, 0x02}, {0x9d}}) { // nop; push $2; popf
            code.add(bytes);
            due.push_back({code.here(), debug::single_step});
        }
    }
};

void set_up(DebugGuest& guest, const Stepped& s) {
    guest.state.rflags = 2 | debug::rflags_tf;
    guest.state.gpr[abi::rcx] = s.rcx;
    guest.state.gpr[abi::rsi] = REFHV_SCRATCH;
    guest.state.gpr[abi::rdi] = REFHV_SCRATCH + 256;
    guest.state.gpr[abi::r11] = layout::data;
}

class DebugStepping : public Debug {
  protected:
    void traps(const Stepped& s);
    void exits_with_nothing_pending(const Stepped& s);
    void traps_where_answered(const Stepped& s);

  private:
    static DebugGuest guest_of(const Stepped& s, client::Plan plan = {}) {
        plan.intercepts = s.exits;
        DebugGuest guest(host(), plan);
        if ((guest.settle().unsupported & s.exits) != 0) {
            throw client::Refused(abi::Op::intercept, abi::Outcome::unsupported,
                                  "this CPU cannot intercept it");
        }
        set_up(guest, s);
        return guest;
    }
};

} // namespace

void DebugStepping::traps(const Stepped& s) {
    claim({"SDM 3B 18.3.1.4; SDM 3A 6.8.3", s.vmx_only ? "" : "APM 2 13.1.4"}, [&] {
        const Program program(s);
        DebugGuest guest(host(), client::Plan{});
        if ((guest.settle().forced & s.exits) != 0) {
            GTEST_SKIP() << "it always exits here";
        }
        set_up(guest, s);
        guest.load(program.code.code());
        expect_traps(guest.run_and_read(), program.due);
    });
}

// An exit comes instead of the instruction, and nothing is pending then: it did not execute.
void DebugStepping::exits_with_nothing_pending(const Stepped& s) {
    claim({"SDM 3C 28.3.4", "APM 2 15.7"}, [&] {
        const Program program(s);
        DebugGuest guest = guest_of(s);
        guest.load(program.code.code());
        const auto r = guest.run_and_read();
        expect_exit(r, s.reason, program.at);
        EXPECT_EQ(r.traps.size(), 1u) << "behind the NOP: the premise";
        EXPECT_EQ(r.reply.state.rflags & debug::rflags_tf, debug::rflags_tf);
        if (on_vmx()) {
            EXPECT_EQ(guest.read_field(vmcs::pending_debug, 8, false), 0u) << "pending debug exceptions";
        }
        EXPECT_EQ(r.reply.state.dr6, debug::dr6_clear);
    });
}

// What the host steps over traps as if it had executed (SDM 3C 33.2.1).
void DebugStepping::traps_where_answered(const Stepped& s) {
    claim({"SDM 3C 33.2.1", "APM 2 13.1.4"}, [&] {
        const Program program(s);
        client::Plan plan;
        plan.policy.push_back({.reason = static_cast<u16>(s.reason),
                               .action = static_cast<u8>(abi::Action::advance),
                               .length = static_cast<u8>(s.bytes.size()),
                               .event = 0});
        DebugGuest guest = guest_of(s, plan);
        guest.load(program.code.code());
        const auto r = guest.run_and_read();
        EXPECT_EQ(r.reply.handled, 1u) << "the premise";
        expect_traps(r, program.due);
    });
}

#define STEPPED(name, ...)                                                                                   \
    static const Stepped name##_row{__VA_ARGS__};                                                            \
    TEST_F(DebugStepping, name##_traps) {                                                                    \
        traps(name##_row);                                                                                   \
    }
#define STEPPED_EXIT(name, ...)                                                                              \
    STEPPED(name, __VA_ARGS__)                                                                               \
    TEST_F(DebugStepping, name##_exits_with_nothing_pending) {                                               \
        exits_with_nothing_pending(name##_row);                                                              \
    }                                                                                                        \
    TEST_F(DebugStepping, name##_traps_where_answered) {                                                     \
        traps_where_answered(name##_row);                                                                    \
    }

STEPPED(nop, .bytes = {0x90})
STEPPED_EXIT(cpuid, .bytes = {0x0f, 0xa2}, .exits = client::on(Intercept::cpuid), .reason = Reason::cpuid)
STEPPED_EXIT(rdtsc, .bytes = {0x0f, 0x31}, .exits = client::on(Intercept::rdtsc), .reason = Reason::rdtsc)
STEPPED_EXIT(pause, .bytes = {0xf3, 0x90}, .exits = client::on(Intercept::pause), .reason = Reason::pause)
STEPPED_EXIT(mov_from_cr3, .bytes = {0x0f, 0x20, 0xd8}, .exits = client::on(Intercept::cr3_read),
             .reason = Reason::cr3_read)
STEPPED(mov_from_dr3, .bytes = {0x0f, 0x21, 0xd8})
STEPPED(jump, .bytes = {0xeb, 0x01, 0x90})
STEPPED(pushf, .bytes = {0x9c})
STEPPED(sti, .bytes = {0xfb}, .vmx_only = true)
STEPPED(mov_from_ss, .bytes = {0x8c, 0xd0})
STEPPED(mov_to_ss, .bytes = {0x41, 0x8e, 0xd3}, .traps = 0)
STEPPED(lfence, .bytes = {0x0f, 0xae, 0xe8})
STEPPED(repeated_loads, .bytes = {0xf3, 0xac}, .traps = 3, .rcx = 3)
STEPPED(no_repetition, .bytes = {0xf3, 0xac}, .traps = 1, .rcx = 0)
STEPPED(one_repetition, .bytes = {0xf3, 0xaa}, .traps = 1, .rcx = 1)
STEPPED_EXIT(invlpg, .bytes = {0x0f, 0x01, 0x3e}, .exits = client::on(Intercept::invlpg),
             .reason = Reason::invlpg)
STEPPED(clts, .bytes = {0x0f, 0x06})
STEPPED_EXIT(wbinvd, .bytes = {0x0f, 0x09}, .exits = client::on(Intercept::wbinvd), .reason = Reason::wbinvd)

// Exits by #DB behind one instruction.
TEST_F(DebugStepping, exits_behind_one_instruction_where_debug_exceptions_are_intercepted) {
    claim({"SDM 3C 28.2.1 table 28-1", "APM 2 15.12.2"}, [&] {
        Code code;
        for (int i = 0; i < 4; ++i) {
            code.add({0x90});
        }
        DebugGuest guest(host(), intercepting_debug());
        guest.load(code.code());
        guest.state.rflags |= debug::rflags_tf;
        u64 rip = layout::code;
        for (int i = 0; i < 3; ++i) {
            guest.state.rip = rip;
            const auto r = guest.run({});
            expect_debug_exit(r, ++rip, debug::single_step);
            EXPECT_EQ(r.reply.state.rflags & debug::rflags_tf, debug::rflags_tf);
            if (on_vmx()) {
                EXPECT_EQ(guest.read_field(vmcs::pending_debug, 8, false), 0u);
            }
        }
        combinations(3);
    });
}

// TF goes off in a handler, is pushed as it was, and IRET brings it back.
TEST_F(DebugStepping, is_off_in_a_handler) {
    claim({"SDM 3A 6.12.1.3; SDM 3B 18.3.1.4", "APM 2 8.9.3"}, [&] {
        const Program program(nop_row);
        DebugGuest guest(host(), client::Plan{});
        set_up(guest, nop_row);
        guest.load(program.code.code());
        const auto r = guest.run_and_read();
        ASSERT_EQ(r.traps.size(), program.due.size());
        for (usize i = 0; i < r.traps.size(); ++i) {
            const bool behind_popf = i + 1 == r.traps.size(); // which turned TF off
            EXPECT_EQ(r.traps[i].rflags, behind_popf ? 2 : 2 | debug::rflags_tf);
        }
    });
}

// Of faults the pushed image has RF, of a breakpoint at an instruction it has not (SDM), of traps neither.
TEST_F(DebugStepping, resume_flag_is_pushed_with_faults_and_not_with_traps) {
    claim({"SDM 3B 18.3.1.1", "APM 2 8.9.3, 3.1.6"}, [&] {
        struct Way {
            const char* what;
            std::vector<u8> bytes;
            u64 vector, flag;
        };
        const std::vector<Way> ways{
            {"#UD", {0x0f, 0x0b}, 6, debug::rflags_rf},
            {"#PF", {0xa0, 0, 0, 0, 0x7f, 0, 0, 0, 0}, 14, debug::rflags_rf},
            {"#GP", {0x8a, 0x01}, 13, debug::rflags_rf}, // mov (%rcx), %al
            {"#DE", {0xf7, 0xf2}, 0, debug::rflags_rf},  // div %edx, by 0
            {"#BP", {0xcc}, 3, 0},
            {"INT n", {0xcd, 0x1c}, 28, 0},
        };
        for (const Way& way : ways) {
            for (const u64 before : {u64{0}, debug::rflags_rf}) {
                if (HasFailure()) {
                    break; // one finding
                }
                SCOPED_TRACE(testing::Message() << way.what << ", RF before it " << (before >> 16));
                Code code;
                for (const u8 byte : way.bytes) {
                    code.add({byte});
                }
                DebugGuest guest(host(), client::Plan{});
                guest.load(code.code());
                guest.state.rflags |= before;
                guest.state.gpr[abi::rcx] = u64{1} << 63; // not canonical
                guest.state.gpr[abi::rdx] = 0;
                const auto r = guest.run_and_read();
                EXPECT_EQ(r.exceptions.count, 1u);
                EXPECT_EQ(r.exceptions.vector, way.vector);
                EXPECT_EQ(r.exceptions.rflags & debug::rflags_rf, way.flag);
            }
        }
        combinations(2 * ways.size());
    });
}

} // namespace refhv::front
