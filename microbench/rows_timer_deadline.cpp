// SPDX-License-Identifier: MIT
// The local APIC's timer in TSC-deadline mode, in ring 0 without virtualization: what arming costs, and how
// late the first instruction of its handler is.
#include "conformance/deadline_guest.hpp"
#include "microbench/measurement.hpp"

namespace refhv::bench {

using abi::Mode;
using client::Guest;

namespace {

constexpr const char* fires = "TimerDeadline.fires_once_and_not_before_its_time";
constexpr u64 wait = 50'000; // TSC ticks; in the guest below too

// Per round: Sample{due, TSC in the handler, 1}. One that has not come after 2^26 ticks more ends in #UD.
GUEST(
    guest_deadlines,
    "mov " REFHV_ASM(
        REFHV_PARAMETER_COUNT) ", %r12d\n"
                               "mov $" REFHV_ASM(
                                   REFHV_SAMPLES) ", %r13d\n" REFHV_FIND_APIC
                                                  "mov $" REFHV_ASM(REFHV_LVT_DEADLINE) "+" REFHV_ASM(REFHV_TIMER_VECTOR) ", %eax\n" REFHV_WRITE_APIC(
                                                      0x320) "lea 3f(%rip), %r15\n"
                                                             "1:" REFHV_TSC_IN_RAX
                                                             "add $50000, %rax\n mov %rax, %r8\n lea "
                                                             "0x4000000(%rax), %r9\n" REFHV_ARM_DEADLINE
                                                             "sti\n"
                                                             "2: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n cmp "
                                                             "%r9, %rax\n jb 2b\n ud2\n"
                                                             "3: shl $32, %rdx\n or %rdx, %rax\n"
                                                             "mov %r8, (%r13)\n mov %rax, 8(%r13)\n movq $1, "
                                                             "16(%r13)\n add $24, %r13\n"
                                                             "xor %eax, %eax\n" REFHV_WRITE_APIC(
                                                                 0xb0) "mov $" REFHV_ASM(REFHV_STACK_TOP) ", "
                                                                                                          "%e"
                                                                                                          "sp"
                                                                                                          "\n"
                                                                                                          "de"
                                                                                                          "c "
                                                                                                          "%r"
                                                                                                          "12"
                                                                                                          "\n"
                                                                                                          " j"
                                                                                                          "nz"
                                                                                                          " 1"
                                                                                                          "b"
                                                                                                          "\n")
GUEST(note_time, "lfence\n rdtsc\n lfence\n jmp *%r15")

std::vector<client::Sample> deadlines(Guest& guest, u64 n) {
    guest.load(guest_deadlines);
    auto r = guest.run({.rounds = n, .samples = n});
    if (r.outcome != abi::Outcome::exited ||
        static_cast<abi::Reason>(r.reply.exit.reason) != abi::Reason::int_n || r.exceptions.count != 0) {
        throw Invalid("a deadline did not come, or the guest took an exception: vector " +
                      std::to_string(r.exceptions.vector));
    }
    if (r.reply.host_changed != 0) {
        throw Invalid("host state changed, HostState bits " + std::to_string(r.reply.host_changed));
    }
    return std::move(r.samples);
}

const Declare fire{[] {
    Row row{.name = "timer.tsc_deadline", .missing = front::no_tsc_deadline, .rests_on = {fires}};
    row.modes = {Mode::native};
    row.by_itself = [](Mode mode, u64, Measurement& m) {
        Guest guest(front::Session::get().host(), {.mode = mode, .arena_pages = 1});
        front::take_timer(guest, note_time);
        static_cast<void>(deadlines(guest, 8)); // warm-up
        m.due = Due{.ticks = wait, .timer = "IA32_TSC_DEADLINE"};
        m.stamp_cost = 0; // nothing is taken off
        for (const client::Sample& s : deadlines(guest, m.n)) {
            m.samples.push_back(static_cast<std::int64_t>(s.end - s.start));
        }
        m.reason = "from the due time to the handler's stamp: no exit, nothing to split, no slope";
        summarize_net(m);
    };
    return row;
}()};

// So far away that it does not fire.
SAMPLED_GUEST(guest_arms,
              REFHV_FIND_APIC "mov $" REFHV_ASM(REFHV_LVT_DEADLINE) "+" REFHV_ASM(
                  REFHV_TIMER_VECTOR) ", %eax\n" REFHV_WRITE_APIC(0x320),
              "mov $-1, %eax\n mov $0x7fffffff, %edx\n mov $0x6e0, %ecx", "wrmsr")
const Declare arm{[] {
    Row row{.name = "timer.tsc_deadline_arm",
            .guest = guest_arms,
            .arena_pages = 1,
            .missing = front::no_tsc_deadline,
            .rests_on = {"TimerDeadline.reads_back_while_armed"}};
    row.modes = {Mode::native};
    return row;
}()};

} // namespace

} // namespace refhv::bench
