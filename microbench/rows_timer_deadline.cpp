// SPDX-License-Identifier: MIT
// The local APIC's timer in TSC-deadline mode: what arming costs, and how late the first instruction of its
// handler is; in ring 0 without virtualization, and of a guest that has the timer to itself.
#include "conformance/deadline_guest.hpp"
#include "microbench/measurement.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;

namespace {

constexpr u64 wait = 50'000; // TSC ticks; in the guest below too

// clang-format off
// Per round: Sample{due, TSC in the handler, 1}. One that has not come after 2^26 ticks more ends in #UD.
#define DEADLINES                                                                                            \
    "mov " REFHV_ASM(REFHV_PARAMETER_COUNT) ", %r12d\n mov $" REFHV_ASM(REFHV_SAMPLES) ", %r13d\n"           \
    REFHV_FIND_APIC REFHV_TIMER_TO_DEADLINE_MODE                                                             \
    "lea 3f(%rip), %r15\n"                                                                                   \
    "1:" REFHV_TSC_IN_RAX "add $50000, %rax\n mov %rax, %r8\n lea 0x4000000(%rax), %r9\n"                    \
    REFHV_ARM_DEADLINE "sti\n"                                                                               \
    "2: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n cmp %r9, %rax\n jb 2b\n ud2\n"                               \
    "3: shl $32, %rdx\n or %rdx, %rax\n"                                                                     \
    "mov %r8, (%r13)\n mov %rax, 8(%r13)\n movq $1, 16(%r13)\n add $24, %r13\n"                              \
    REFHV_END_OF_INTERRUPT                                                                                   \
    "mov $" REFHV_ASM(REFHV_STACK_TOP) ", %esp\n dec %r12\n jnz 1b\n"                                        \
    "mov $0x10040, %eax\n" REFHV_WRITE_APIC(0x320) /* masked */
GUEST(native_deadlines, REFHV_MAP_APIC DEADLINES)
GUEST(guest_deadlines, DEADLINES)
GUEST(note_time, "lfence\n rdtsc\n lfence\n jmp *%r15")
// clang-format on

std::vector<client::Sample> deadlines(Guest& guest, Mode mode, u64 n) {
    guest.load(mode == Mode::native ? native_deadlines : guest_deadlines);
    auto r = guest.run({.rounds = n, .samples = n});
    const auto reason = static_cast<Reason>(r.reply.exit.reason);
    if (r.outcome != abi::Outcome::exited || r.exceptions.count != 0 ||
        reason != (mode == Mode::native ? Reason::int_n : Reason::hlt)) {
        throw Invalid(std::string("a deadline did not come, or the guest took an exception: ") +
                      client::name_of(reason) + ", vector " + std::to_string(r.exceptions.vector));
    }
    if (mode == Mode::nested && r.reply.entries != 1) {
        throw Invalid(std::to_string(r.reply.entries - 1) + " exits where none was due");
    }
    if (r.reply.host_changed != 0) {
        throw Invalid("host state changed, HostState bits " + std::to_string(r.reply.host_changed));
    }
    return std::move(r.samples);
}

void late(Guest& guest, Mode mode, Measurement& m) {
    front::take_timer(guest, note_time);
    static_cast<void>(deadlines(guest, mode, 8)); // warm-up
    m.due = Due{.ticks = wait, .timer = "IA32_TSC_DEADLINE"};
    m.stamp_cost = 0; // nothing is taken off
    for (const client::Sample& s : deadlines(guest, mode, m.n)) {
        m.samples.push_back(static_cast<std::int64_t>(s.end - s.start));
    }
    m.reason = "from the due time to the handler's stamp: no exit, nothing to split, no slope";
    summarize_net(m);
}

const Declare fire{[] {
    Row row{.name = "timer.tsc_deadline",
            .missing = front::no_tsc_deadline,
            .rests_on = {"TimerDeadline.fires_once_and_not_before_its_time"}};
    row.modes = {Mode::native, Mode::nested};
    row.by_itself = [](Mode mode, u64, Measurement& m) {
        auto& host = front::Session::get().host();
        if (mode == Mode::native) {
            Guest guest(host, {.mode = mode, .arena_pages = 1});
            late(guest, mode, m);
            return;
        }
        if (front::Session::get().vendor() != abi::Vendor::vmx) {
            throw NotHere("a guest that has the interrupts to itself is made on VMX only");
        }
        const u64 page = front::apic_page(host);
        Guest guest(host, front::plan_with_apic());
        front::give_apic(guest, page);
        late(guest, mode, m);
    };
    return row;
}()};

// So far away that it does not fire.
SAMPLED_GUEST(guest_arms, REFHV_MAP_APIC REFHV_FIND_APIC REFHV_TIMER_TO_DEADLINE_MODE,
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
