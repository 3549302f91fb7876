// SPDX-License-Identifier: MIT
// The local APIC's timer in TSC-deadline mode, as a guest in mode native has it.
#include "conformance/timer/case.hpp"

namespace refhv::front {

namespace {

// LVT timer := EBP. Twice, where RSI says so: IA32_TSC_DEADLINE := TSC + RBX (RDI), or what RBX (RDI) holds
// where bit 0 (1) of R11 is set. Then waits, interrupts on, until the handler comes or R9 ticks have gone.
// Leaves at layout scratch: last value written, read back, TSC in the handler or 0, read back at the end,
// handlers run, initial count written and current count read.
#define AT(n) REFHV_ASM(REFHV_SCRATCH) "+" #n
#define READ_DEADLINE "mov $0x6e0, %ecx\n rdmsr\n shl $32, %rdx\n or %rdx, %rax\n"
// clang-format off
#define ARM(delta, bit)                                                                                      \
    "xor %eax, %eax\n bt $" #bit ", %r11d\n jc 93f\n" REFHV_TSC_IN_RAX "93: add %" delta ", %rax\n"          \
    "mov %rax, " AT(0) "\n" REFHV_ARM_DEADLINE
#define DEADLINE_SCRIPT                                                                                      \
    REFHV_FIND_APIC                                                                                          \
    "mov %ebp, %eax\n" REFHV_WRITE_APIC(0x320)                                                               \
    "mov $1000, %eax\n" REFHV_WRITE_APIC(0x380)                                                              \
    REFHV_READ_APIC(0x390) "mov %eax, %eax\n mov %rax, " AT(40) "\n"                                         \
    ARM("rbx", 0)                                                                                            \
    "test %esi, %esi\n jz 1f\n"                                                                              \
    ARM("rdi", 1)                                                                                            \
    "1:" READ_DEADLINE "mov %rax, " AT(8) "\n"                                                               \
    "lea 3f(%rip), %r15\n" REFHV_TSC_IN_RAX "add %rax, %r9\n sti\n"                                          \
    "2: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n cmp %r9, %rax\n jb 2b\n"                                     \
    "cli\n jmp 4f\n"                                                                                         \
    "3: incq " AT(32) "\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, " AT(16) "\n"                            \
    REFHV_END_OF_INTERRUPT                                                                                   \
    "mov $" REFHV_ASM(REFHV_STACK_TOP) ", %esp\n sti\n jmp 2b\n"                                             \
    "4:" READ_DEADLINE "mov %rax, " AT(24) "\n"                                                              \
    "xor %eax, %eax\n" REFHV_ARM_DEADLINE                                                                    \
    "mov $0x10040, %eax\n" REFHV_WRITE_APIC(0x320)
GUEST(native_deadline, REFHV_MAP_APIC DEADLINE_SCRIPT)
// clang-format on
GUEST(to_r15, "lfence\n rdtsc\n lfence\n jmp *%r15")

constexpr u64 deadline_mode = REFHV_LVT_DEADLINE, masked = 1u << 16;
constexpr u64 soon = 20'000, later = 100'000, patience = 400'000; // TSC ticks

struct Left {
    u64 written, read_back, fired, read_at_end, handlers, current_count;
};

struct Script {
    u64 lvt = deadline_mode;
    u64 first = soon;
    bool again = false;
    u64 second = 0;
    u64 absolute = 0; // bit 0: first, bit 1: second
};

} // namespace

class TimerDeadline : public TimerCase {
  protected:
    static Left left_by(const Script& script) {
        const auto left = TimerCase::left_by(native_deadline, to_r15,
                                             {{abi::rbp, script.lvt},
                                              {abi::rbx, script.first},
                                              {abi::rsi, script.again ? 1 : 0},
                                              {abi::rdi, script.second},
                                              {abi::r11, script.absolute},
                                              {abi::r9, patience}},
                                             6);
        return {left[0], left[1], left[2], left[3], left[4], left[5]};
    }
    void claim_with_timer(const std::function<void()>& body) {
        TimerCase::claim_with_timer({.sdm = "SDM 3A 11.5.4.1"}, no_tsc_deadline, body);
    }
};

TEST_F(TimerDeadline, fires_once_and_not_before_its_time) {
    claim_with_timer([&] {
        const Left left = left_by({});
        EXPECT_EQ(left.handlers, 1u);
        EXPECT_GE(left.fired, left.written);
    });
}

TEST_F(TimerDeadline, reads_back_while_armed) {
    claim_with_timer([&] {
        const Left left = left_by({.first = later});
        EXPECT_EQ(left.read_back, left.written);
    });
}

TEST_F(TimerDeadline, is_zero_once_it_has_fired) {
    claim_with_timer([&] {
        const Left left = left_by({});
        EXPECT_EQ(left.handlers, 1u);
        EXPECT_EQ(left.read_at_end, 0u);
    });
}

TEST_F(TimerDeadline, time_that_has_passed_fires_at_once) {
    claim_with_timer([&] {
        const u64 times[] = {0, ~u64{0} - 999}; // now, and 1000 ticks ago
        for (const u64 ago : times) {
            SCOPED_TRACE(ago);
            const Left left = left_by({.first = ago});
            EXPECT_EQ(left.handlers, 1u);
            EXPECT_LT(left.fired - left.written, soon);
        }
        combinations(std::size(times));
    });
}

TEST_F(TimerDeadline, zero_disarms) {
    claim_with_timer([&] {
        const Left left = left_by({.again = true, .absolute = 2});
        EXPECT_EQ(left.written, 0u);
        EXPECT_EQ(left.read_back, 0u);
        EXPECT_EQ(left.handlers, 0u);
    });
}

TEST_F(TimerDeadline, writing_again_moves_it) {
    claim_with_timer([&] {
        for (const auto& [first, second] : {std::pair{soon, later}, {later, soon}}) {
            SCOPED_TRACE(first);
            const Left left = left_by({.first = first, .again = true, .second = second});
            EXPECT_EQ(left.handlers, 1u);
            EXPECT_GE(left.fired, left.written);
        }
        combinations(2);
    });
}

TEST_F(TimerDeadline, masked_timer_does_not_interrupt) {
    claim_with_timer([&] {
        const Left left = left_by({.lvt = deadline_mode | masked});
        EXPECT_EQ(left.handlers, 0u);
    });
}

TEST_F(TimerDeadline, is_nothing_in_the_other_modes) {
    claim_with_timer([&] {
        constexpr u64 periodic = u64{1} << 17;
        for (const u64 mode : {u64{0}, periodic}) {
            SCOPED_TRACE(mode);
            const Left left = left_by({.lvt = mode | masked | REFHV_TIMER_VECTOR});
            EXPECT_EQ(left.read_back, 0u);
        }
        combinations(2);
    });
}

TEST_F(TimerDeadline, initial_count_is_ignored_and_current_count_is_zero) {
    claim_with_timer([&] {
        const Left left = left_by({.first = 0, .absolute = 1}); // never armed
        EXPECT_EQ(left.current_count, 0u);
        EXPECT_EQ(left.handlers, 0u);
    });
}

} // namespace refhv::front
