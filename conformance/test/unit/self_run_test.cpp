// SPDX-License-Identifier: MIT
// Guests of the `self` target: registers, signals as exits, policies, deadlines, deaths.
#include "conformance/test/unit/self_machine.hpp"

#include <gtest/gtest.h>

namespace refhv::client {
namespace {

using abi::Action;
using abi::Outcome;
using abi::Reason;

GUEST(nothing, "")
GUEST(swap_registers,
      "xchg %rax, %r15\n xchg %rcx, %r14\n xchg %rdx, %r13\n xchg %rbx, %r12\n xchg %rbp, %r11\n"
      "xchg %rsi, %r10\n xchg %rdi, %r9\n add $8, %r8\n sub $16, %rsp\n stc\n std")
GUEST(undefined, "ud2")
GUEST(undefined_twice, "ud2\n inc %rax\n ud2\n inc %rax")
GUEST(halts, "mov $1000, %ecx\n 1: hlt\n dec %ecx\n jnz 1b")
GUEST(load_unmapped, "mov $0x7f000008, %eax\n mov (%rax), %rbx")
GUEST(store_unmapped, "mov $0x7f000008, %eax\n mov %rbx, (%rax)")
GUEST(jump_unmapped, "mov $0x7f000008, %eax\n jmp *%rax")
GUEST(load_noncanonical, "mov $0x8000000000000000, %rax\n mov (%rax), %rbx")
GUEST(divide, "xor %ecx, %ecx\n xor %edx, %edx\n div %ecx")
GUEST(trap_flag, "pushf\n orl $0x100, (%rsp)\n popf\n nop\n nop")
GUEST(alignment, "pushf\n orl $0x40000, (%rsp)\n popf\n mov 1(%rsp), %eax")
GUEST(spin, "1: inc %rax\n jmp 1b")
GUEST(kill_itself, "mov $39, %eax\n syscall\n mov %eax, %edi\n mov $9, %esi\n mov $62, %eax\n syscall")
GUEST(exit_itself, "mov $5, %edi\n mov $231, %eax\n syscall")
GUEST(lose_fs, "xor %edi, %edi\n wrfsbase %rdi\n hlt\n rdfsbase %rsi")
GUEST(lose_stack, "xor %esp, %esp\n hlt")
GUEST(null_segments, "xor %eax, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %fs\n hlt")
GUEST(read_fpu, "push $0\n stmxcsr (%rsp)\n pop %rax\n push $0\n fnstcw (%rsp)\n pop %rbx\n"
                "push $0\n fnstsw (%rsp)\n pop %rcx")
GUEST(wild_fpu, "fldpi\n fldpi\n fldpi\n pushq $0x027f\n fldcw (%rsp)\n pushq $0x7f80\n ldmxcsr (%rsp)")

class SelfRun : public testing::Test {
  protected:
    SelfMachine machine;

    void expect_exit(const SelfMachine::Ended& ended, Reason reason, u16 vector, u64 offset) {
        EXPECT_EQ(ended.outcome, Outcome::exited);
        EXPECT_STREQ(name_of(ended.reason()), name_of(reason));
        EXPECT_EQ(ended.reply.exit.vector, vector);
        EXPECT_EQ(ended.reply.state.rip, layout::code + offset);
    }
};

TEST_F(SelfRun, stops_at_int3) {
    const auto ended = machine.run(nothing);
    expect_exit(ended, Reason::exception, 3, 0);
    EXPECT_EQ(ended.count(Reason::exception), 1u);
    EXPECT_EQ(ended.reply.entries, 1u);
    EXPECT_EQ(ended.reply.handled, 0u);
    EXPECT_EQ(ended.reply.exit.raw_reason, 5u); // SIGTRAP
    EXPECT_EQ(ended.reply.exit.qualification, 3u);
    EXPECT_EQ(ended.reply.exit.next_rip, layout::code + 1);
    EXPECT_GT(ended.reply.tsc_end, ended.reply.tsc_begin);
    EXPECT_EQ(ended.reply.host_changed, 0u);
}

TEST_F(SelfRun, stops_at_int3_whatever_the_policy) {
    machine.policy = {answer_with(Reason::exception, Action::advance, 1)};
    expect_exit(machine.run(nothing), Reason::exception, 3, 0);
}

TEST_F(SelfRun, guest_starts_and_ends_with_its_registers) {
    for (u64 i = 0; i < 16; ++i) {
        machine.state.gpr[i] = 0x1111'1111'1111'1111 * i + 5;
    }
    machine.state.gpr[abi::rsp] = 0x4003'fff0;
    machine.state.rflags = 0x0000'0ad7; // status flags, and IF, which a process has anyway
    const auto ended = machine.run(swap_registers);
    const auto was = [this](abi::Gpr r) { return machine.state.gpr[r]; };
    EXPECT_EQ(ended.gpr(abi::rax), was(abi::r15));
    EXPECT_EQ(ended.gpr(abi::r15), was(abi::rax));
    EXPECT_EQ(ended.gpr(abi::rcx), was(abi::r14));
    EXPECT_EQ(ended.gpr(abi::r14), was(abi::rcx));
    EXPECT_EQ(ended.gpr(abi::rdx), was(abi::r13));
    EXPECT_EQ(ended.gpr(abi::r13), was(abi::rdx));
    EXPECT_EQ(ended.gpr(abi::rbx), was(abi::r12));
    EXPECT_EQ(ended.gpr(abi::r12), was(abi::rbx));
    EXPECT_EQ(ended.gpr(abi::rbp), was(abi::r11));
    EXPECT_EQ(ended.gpr(abi::r11), was(abi::rbp));
    EXPECT_EQ(ended.gpr(abi::rsi), was(abi::r10));
    EXPECT_EQ(ended.gpr(abi::r10), was(abi::rsi));
    EXPECT_EQ(ended.gpr(abi::rdi), was(abi::r9));
    EXPECT_EQ(ended.gpr(abi::r9), was(abi::rdi));
    EXPECT_EQ(ended.gpr(abi::r8), was(abi::r8) + 8);
    EXPECT_EQ(ended.gpr(abi::rsp), was(abi::rsp) - 16);
    EXPECT_EQ(ended.reply.state.rflags & 0x401, 0x401u); // CF and DF, which the guest set
    // The state stays with the VM, and the direction flag with the guest.
    const auto kept = machine.ask(abi::Op::state_get, abi::VmRef{.vm = SelfMachine::slot, .zero = 0});
    abi::GuestState state;
    ASSERT_EQ(kept.body.size(), sizeof state);
    __builtin_memcpy(&state, kept.body.data(), sizeof state);
    EXPECT_EQ(__builtin_memcmp(&state, &ended.reply.state, sizeof state), 0);
}

TEST_F(SelfRun, flags_given_are_those_the_guest_has) {
    for (const u64 flags : {u64{0x001}, u64{0x880}, u64{0x454}}) {
        machine.state.rflags = flags;
        EXPECT_EQ(machine.run(nothing).reply.state.rflags & 0xcd5, flags);
    }
    machine.state.rflags = 0x100 | 0x4000; // TF and NT are not for a guest to bring
    expect_exit(machine.run(nothing), Reason::exception, 3, 0);
}

TEST_F(SelfRun, exceptions_come_with_vector_and_address) {
    const auto ud = machine.run(undefined);
    expect_exit(ud, Reason::exception, 6, 0);
    EXPECT_EQ(ud.reply.exit.raw_reason, 4u); // SIGILL
    const auto load = machine.run(load_unmapped);
    expect_exit(load, Reason::exception, 14, 5);
    EXPECT_EQ(load.reply.exit.guest_linear, 0x7f00'0008u);
    EXPECT_EQ(load.reply.state.cr2, 0x7f00'0008u);
    EXPECT_EQ(load.reply.exit.interruption_error & 0x17, 4u); // user, read
    const auto store = machine.run(store_unmapped);
    EXPECT_EQ(store.reply.exit.interruption_error & 0x17, 6u); // user, write
    const auto jump = machine.run(jump_unmapped);
    EXPECT_EQ(jump.outcome, Outcome::exited);
    EXPECT_EQ(jump.reply.exit.vector, 14);
    EXPECT_EQ(jump.reply.state.rip, 0x7f00'0008u);
    EXPECT_EQ(jump.reply.exit.guest_linear, 0x7f00'0008u);
    expect_exit(machine.run(load_noncanonical), Reason::exception, 13, 10);
    expect_exit(machine.run(divide), Reason::exception, 0, 4);
    EXPECT_EQ(machine.run(trap_flag).reply.exit.vector, 1);
    EXPECT_EQ(machine.run(alignment).reply.exit.vector, 17);
    expect_exit(machine.run(nothing), Reason::exception, 3, 0); // and none of it harmed the process
}

TEST_F(SelfRun, first_instruction_may_be_anywhere) {
    machine.state.rip = 0x8000'0000'0000'0000; // not even canonical
    const auto ended = machine.run(nothing);
    EXPECT_EQ(ended.outcome, Outcome::exited);
    EXPECT_EQ(ended.reply.exit.vector, 13);
    EXPECT_EQ(ended.reply.state.rip, 0x8000'0000'0000'0000u);
    EXPECT_EQ(ended.gpr(abi::rsp), layout::stack_top);
    EXPECT_EQ(machine.target().generation(), 1u);
}

TEST_F(SelfRun, privileged_instructions_are_their_own_reason) {
    const auto ended = machine.run(halts);
    expect_exit(ended, Reason::hlt, 0, 5);
    EXPECT_EQ(ended.reply.exit.instruction_length, 1u);
    EXPECT_EQ(ended.reply.exit.raw_reason, 11u); // SIGSEGV
    EXPECT_EQ(ended.reply.exit.qualification, 13u);
}

TEST_F(SelfRun, advance_steps_over_and_counts) {
    machine.policy = {answer_with(Reason::hlt, Action::advance)};
    const auto ended = machine.run(halts);
    expect_exit(ended, Reason::exception, 3, halts.size());
    EXPECT_EQ(ended.count(Reason::hlt), 1000u);
    EXPECT_EQ(ended.count(Reason::exception), 1u);
    EXPECT_EQ(ended.reply.handled, 1000u);
    EXPECT_EQ(ended.reply.entries, 1001u);
    EXPECT_EQ(ended.gpr(abi::rcx), 0u);
}

TEST_F(SelfRun, advance_needs_a_length) {
    machine.policy = {answer_with(Reason::exception, Action::advance)};
    expect_exit(machine.run(undefined_twice), Reason::exception, 6, 0);
    machine.policy = {answer_with(Reason::exception, Action::advance, 2)};
    const auto ended = machine.run(undefined_twice);
    expect_exit(ended, Reason::exception, 3, undefined_twice.size());
    EXPECT_EQ(ended.gpr(abi::rax), 2u);
    EXPECT_EQ(ended.count(Reason::exception), 3u);
}

TEST_F(SelfRun, repeats_end_the_run_behind_the_last_one) {
    machine.policy = {answer_with(Reason::hlt, Action::advance)};
    machine.options.repeats = 10;
    const auto ended = machine.run(halts);
    EXPECT_EQ(ended.outcome, Outcome::repeats_done);
    EXPECT_EQ(ended.reply.handled, 10u);
    EXPECT_EQ(ended.count(Reason::hlt), 10u);
    EXPECT_EQ(ended.reply.state.rip, layout::code + 6);
    EXPECT_EQ(ended.gpr(abi::rcx), 991u);
}

TEST_F(SelfRun, resume_meets_the_same_exit_again) {
    machine.policy = {answer_with(Reason::hlt, Action::resume)};
    machine.options.repeats = 7;
    const auto ended = machine.run(halts);
    EXPECT_EQ(ended.outcome, Outcome::repeats_done);
    EXPECT_EQ(ended.count(Reason::hlt), 7u);
    EXPECT_EQ(ended.reply.state.rip, layout::code + 5);
    EXPECT_EQ(ended.gpr(abi::rcx), 1000u);
}

TEST_F(SelfRun, host_stamps_are_ordered_and_bounded) {
    machine.policy = {answer_with(Reason::hlt, Action::advance)};
    machine.options.flags = abi::run_host_stamps;
    machine.options.max_stamps = 100;
    const auto ended = machine.run(halts);
    ASSERT_EQ(ended.stamps.size(), 100u);
    u64 before = ended.reply.tsc_begin;
    for (const abi::HostStamp& stamp : ended.stamps) {
        EXPECT_LT(before, stamp.first);
        EXPECT_LT(stamp.first, stamp.last);
        before = stamp.last;
    }
    EXPECT_LT(before, ended.reply.tsc_end);
}

TEST_F(SelfRun, deadline_ends_what_does_not_end) {
    const u64 hz = machine.target().hello().fixed.tsc_hz;
    machine.options.deadline = hz / 20;
    const auto ended = machine.run(spin);
    EXPECT_EQ(ended.outcome, Outcome::deadline);
    EXPECT_EQ(ended.reason(), Reason::none);
    EXPECT_GT(ended.gpr(abi::rax), 1000u);
    EXPECT_GE(ended.reply.tsc_end - ended.reply.tsc_begin, hz / 40);
    EXPECT_LT(ended.reply.tsc_end - ended.reply.tsc_begin, 5 * hz);
    EXPECT_GE(ended.reply.state.rip, layout::code);
    EXPECT_LT(ended.reply.state.rip, layout::code + spin.size());
    // One that has passed before the guest starts is a deadline too.
    machine.options.deadline = 1;
    EXPECT_EQ(machine.run(spin).outcome, Outcome::deadline);
    machine.options.deadline = 0;
    expect_exit(machine.run(nothing), Reason::exception, 3, 0);
}

TEST_F(SelfRun, deadline_ends_a_guest_that_is_busy_with_exits) {
    machine.policy = {answer_with(Reason::hlt, Action::resume)};
    machine.options.deadline = machine.target().hello().fixed.tsc_hz / 20;
    const auto ended = machine.run(halts);
    EXPECT_EQ(ended.outcome, Outcome::deadline);
    EXPECT_GT(ended.reply.handled, 100u);
}

TEST_F(SelfRun, survives_a_guest_that_spoils_stack_segments_and_fpu) {
    machine.policy = {answer_with(Reason::hlt, Action::advance)};
    expect_exit(machine.run(lose_stack), Reason::exception, 3, lose_stack.size());
    expect_exit(machine.run(null_segments), Reason::exception, 3, null_segments.size());
    expect_exit(machine.run(wild_fpu), Reason::exception, 3, wild_fpu.size());
    EXPECT_EQ(machine.target().generation(), 1u);
    const auto after = machine.run(read_fpu);
    // MXCSR without its sticky flags, which are those of the process that started it; x87 control and status
    // word.
    EXPECT_EQ(after.gpr(abi::rax) & ~u64{0x3f}, 0x1f80u);
    EXPECT_EQ(after.gpr(abi::rbx), 0x037fu);
    EXPECT_EQ(after.gpr(abi::rcx), 0u);
}

TEST_F(SelfRun, fs_base_is_the_guests_across_an_exit) {
    machine.policy = {answer_with(Reason::hlt, Action::advance)};
    machine.state.gpr[abi::rsi] = 7;
    const auto ended = machine.run(lose_fs);
    if (ended.reply.exit.vector == 6) {
        GTEST_SKIP() << "this kernel does not let processes use WRFSBASE";
    }
    expect_exit(ended, Reason::exception, 3, lose_fs.size());
    EXPECT_EQ(ended.gpr(abi::rsi), 0u);
    EXPECT_EQ(ended.reply.state.segment[abi::fs].base, 0u);
    EXPECT_EQ(machine.target().generation(), 1u);
}

TEST_F(SelfRun, a_guest_that_ends_its_process_is_a_miss) {
    const auto miss_of = [this](GuestCode code) -> std::string {
        try {
            (void)machine.run(code);
        } catch (const TargetMiss& miss) {
            return miss.what();
        }
        return "no miss";
    };
    EXPECT_EQ(miss_of(kill_itself), "self: ended during request 2; killed by signal 9 (Killed)");
    EXPECT_EQ(machine.target().hello().fixed.platform, static_cast<u16>(abi::Platform::process)); // restarted
    EXPECT_EQ(machine.target().generation(), 2u);
    SelfMachine other;
    machine.target().stop();
    std::swap(machine, other);
    EXPECT_EQ(miss_of(exit_itself), "self: ended during request 2; exit status 5");
}

} // namespace
} // namespace refhv::client
