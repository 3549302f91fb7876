// SPDX-License-Identifier: MIT
// The local APIC's timer counting down, as a guest in mode native has it, and as one that has the APIC and
// the interrupts to itself under virtualization.
#include "conformance/timer/case.hpp"

#include <algorithm>

namespace refhv::front {

using client::Guest;

namespace {

// Divider 1, LVT timer := EBP, initial count := EBX; then, interrupts on, waits until R9 ticks have gone. If
// EDI is not 0, initial count := 0 before that. Leaves in scratch: handlers run; current count soon after
// arming, a while later, and at the end.
#define AT(n) REFHV_ASM(REFHV_SCRATCH) "+" #n
// clang-format off
#define NOTE_COUNT(n) REFHV_READ_APIC(0x390) "mov %eax, %eax\n mov %rax, " AT(n) "\n"
#define COUNTS                                                                                               \
    REFHV_FIND_APIC                                                                                          \
    "mov $0xb, %eax\n" REFHV_WRITE_APIC(0x3e0)                                                               \
    "mov %ebp, %eax\n" REFHV_WRITE_APIC(0x320)                                                               \
    "mov %ebx, %eax\n" REFHV_WRITE_APIC(0x380)                                                               \
    NOTE_COUNT(8)                                                                                            \
    "mov $200, %ecx\n 1: loop 1b\n"                                                                          \
    NOTE_COUNT(16)                                                                                           \
    "test %edi, %edi\n jz 1f\n xor %eax, %eax\n" REFHV_WRITE_APIC(0x380)                                     \
    "1: lea 3f(%rip), %r15\n" REFHV_TSC_IN_RAX "add %rax, %r9\n sti\n"                                       \
    "2: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n cmp %r9, %rax\n jb 2b\n"                                     \
    "cli\n jmp 4f\n"                                                                                         \
    "3: incq " AT(0) "\n" REFHV_END_OF_INTERRUPT                                                             \
    "mov $" REFHV_ASM(REFHV_STACK_TOP) ", %esp\n sti\n jmp 2b\n"                                             \
    "4:" NOTE_COUNT(24) "xor %eax, %eax\n" REFHV_WRITE_APIC(0x380) REFHV_MASK_TIMER
GUEST(native_counter, REFHV_MAP_APIC COUNTS)
GUEST(guest_counter, COUNTS)
// clang-format on
GUEST(to_r15_at_once, "jmp *%r15")

constexpr u64 one_shot = REFHV_LVT_ONE_SHOT, periodic = one_shot | 1u << 17, masked = REFHV_LVT_MASKED;
constexpr u64 a_count = 10'000, patience_counts = 20, patience_at_least = 1'000'000; // TSC ticks

struct Left {
    u64 handlers, soon, later, at_end;
};
struct Script {
    u64 lvt = one_shot;
    u64 count = a_count;
    bool stops = false;
};

} // namespace

class TimerApic : public TimerCase {
  protected:
    static u64 patience() {
        // A count is a tick on an emulator, a good hundred of them on hardware.
        const u64 ticks = host().target.info().counts_instructions ? 1 : 200;
        return std::max(patience_at_least, a_count * patience_counts * ticks);
    }
    static Left left_by(const Script& script) {
        const auto left = TimerCase::left_by(native_counter, to_r15_at_once,
                                             {{abi::rbp, script.lvt},
                                              {abi::rbx, script.count},
                                              {abi::rdi, script.stops ? 1 : 0},
                                              {abi::r9, patience()}},
                                             4);
        return {left[0], left[1], left[2], left[3]};
    }
    void claim_with_timer(const std::function<void()>& body) {
        TimerCase::claim_with_timer({"SDM 3A 11.5.4", "APM 2 16.4.1"}, no_apic_timer, body);
    }
};

TEST_F(TimerApic, one_shot_fires_once) {
    claim_with_timer([&] {
        const Left left = left_by({});
        EXPECT_EQ(left.handlers, 1u);
        EXPECT_EQ(left.at_end, 0u) << "the count has run out";
    });
}

TEST_F(TimerApic, periodic_fires_again_and_again) {
    claim_with_timer([&] { EXPECT_GE(left_by({.lvt = periodic}).handlers, 2u); });
}

TEST_F(TimerApic, masked_timer_counts_and_does_not_interrupt) {
    claim_with_timer([&] {
        const Left left = left_by({.lvt = masked});
        EXPECT_EQ(left.handlers, 0u);
        EXPECT_EQ(left.at_end, 0u);
    });
}

TEST_F(TimerApic, current_count_counts_down) {
    claim_with_timer([&] {
        const Left left = left_by({.lvt = masked, .count = 1u << 30});
        EXPECT_LE(left.soon, u64{1} << 30);
        EXPECT_LE(left.later, left.soon);
        EXPECT_LT(left.at_end, left.soon);
    });
}

TEST_F(TimerApic, initial_count_of_zero_stops_it) {
    claim_with_timer([&] {
        for (const u64 lvt : {one_shot, periodic}) {
            const Left left = left_by({.lvt = lvt, .count = 1u << 20, .stops = true});
            EXPECT_EQ(left.handlers, 0u);
            EXPECT_EQ(left.at_end, 0u);
        }
        combinations(2);
    });
}

class TimerApicGuest : public TimerApic {
  protected:
    [[nodiscard]] abi::Mode mode() const override { return abi::Mode::nested; }
};

TEST_F(TimerApicGuest, interrupts_that_do_not_exit_are_the_guests) {
    const Section section{"SDM 3C 25.6.1, 26.2", "APM 2 15.13.1, 15.21.1"};
    TimerCase::claim_with_timer(section, no_apic_timer, [&] {
        const u64 page = apic_page(host());
        Guest guest(host(), plan_with_apic(Interrupts::direct));
        give_apic(guest, page, Interrupts::direct);
        const auto r = run(guest, guest_counter, to_r15_at_once,
                           {{abi::rbp, one_shot}, {abi::rbx, a_count}, {abi::r9, patience()}});
        EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
        EXPECT_EQ(r.reply.entries, 1u) << "no exit on the way";
        EXPECT_EQ(guest.read64(REFHV_SCRATCH, 1)[0], 1u) << "handlers run";
    });
}

TEST_F(TimerApicGuest, interrupts_that_exit_are_handed_on) {
    const Section section{"SDM 3C 25.6.1, 26.2, 27.6.1", "APM 2 15.13.1, 15.20"};
    TimerCase::claim_with_timer(section, no_apic_timer, [&] {
        const u64 page = apic_page(host());
        Guest guest(host(), plan_with_apic(Interrupts::exit));
        give_apic(guest, page, Interrupts::exit);
        const auto r = run(guest, guest_counter, to_r15_at_once,
                           {{abi::rbp, one_shot}, {abi::rbx, a_count}, {abi::r9, patience()}});
        EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
        EXPECT_EQ(r.count(abi::Reason::external_interrupt), 1u);
        EXPECT_EQ(guest.read64(REFHV_SCRATCH, 1)[0], 1u) << "handlers run";
    });
}

} // namespace refhv::front
