// SPDX-License-Identifier: MIT
// The local APIC's timer, in TSC-deadline mode and counting down once: what arming costs, and how late the
// first instruction of its handler is; in ring 0 without virtualization, of a guest that has the APIC and the
// interrupts to itself, and of one whose interrupts exit and are handed on.
#include "microbench/measure/measurement.hpp"
#include "refhv/front/guests/apic_timer_guest.hpp"

#include <cmath>

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;
using front::Interrupts;

namespace {

constexpr u64 wait = 50'000; // TSC ticks; in the guest below too

// clang-format off
// Per round: Sample{start, TSC in the handler, 1}. With the TSC in RAX `arm` arms, leaves the start in R8 and
// in R9 a time by which it must have fired; else the guest ends in #UD.
#define FIRINGS(set_up, arm)                                                                                 \
    "mov " REFHV_ASM(REFHV_PARAMETER_COUNT) ", %r12d\n mov $" REFHV_ASM(REFHV_SAMPLES) ", %r13d\n"           \
    REFHV_FIND_APIC                                                                                          \
    "lea 3f(%rip), %r15\n"                                                                                   \
    "1:" set_up /* anew: behind an exit the core's own use of the timer stands there */                      \
    REFHV_TSC_IN_RAX arm "sti\n"                                                                             \
    "2: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n cmp %r9, %rax\n jb 2b\n ud2\n"                               \
    "3: shl $32, %rdx\n or %rdx, %rax\n"                                                                     \
    "mov %r8, (%r13)\n mov %rax, 8(%r13)\n movq $1, 16(%r13)\n add $24, %r13\n"                              \
    REFHV_END_OF_INTERRUPT                                                                                   \
    "mov $" REFHV_ASM(REFHV_STACK_TOP) ", %esp\n dec %r12\n jnz 1b\n"                                        \
    REFHV_MASK_TIMER
#define TO_DEADLINE "add $50000, %rax\n mov %rax, %r8\n lea 0x4000000(%rax), %r9\n" REFHV_ARM_DEADLINE
#define COUNT_DOWN /* from R11 */                                                                            \
    "mov %rax, %r8\n lea 0x4000000(%rax), %r9\n mov %r11d, %eax\n" REFHV_WRITE_APIC(0x380)
GUEST(native_deadlines, REFHV_MAP_APIC FIRINGS(REFHV_TIMER_TO_DEADLINE_MODE, TO_DEADLINE))
GUEST(guest_deadlines, FIRINGS(REFHV_TIMER_TO_DEADLINE_MODE, TO_DEADLINE))
GUEST(native_counts, REFHV_MAP_APIC FIRINGS(REFHV_TIMER_TO_ONE_SHOT, COUNT_DOWN))
GUEST(guest_counts, FIRINGS(REFHV_TIMER_TO_ONE_SHOT, COUNT_DOWN))
GUEST(note_time, "lfence\n rdtsc\n lfence\n jmp *%r15")
// clang-format on

// `exits` a firing.
std::vector<std::int64_t> firings(Guest& guest, Mode mode, u64 n, u64 exits) {
    const auto r = guest.run({.rounds = n, .samples = n});
    const auto reason = static_cast<Reason>(r.reply.exit.reason);
    if (r.outcome != abi::Outcome::exited || r.exceptions.count != 0 ||
        reason != (mode == Mode::native ? Reason::int_n : Reason::hlt)) {
        throw Invalid(std::string("the timer did not come, or the guest took an exception: ") +
                      client::name_of(reason) + ", vector " + std::to_string(r.exceptions.vector));
    }
    if (mode == Mode::nested &&
        (r.count(Reason::external_interrupt) != n * exits || r.reply.entries != n * exits + 1)) {
        throw Invalid(std::to_string(r.count(Reason::external_interrupt)) + " external interrupts, " +
                      std::to_string(r.reply.entries) + " entries where " + std::to_string(n * exits) +
                      " and one more were due");
    }
    if (r.reply.host_changed != 0) {
        throw Invalid("host state changed, HostState bits " + std::to_string(r.reply.host_changed));
    }
    std::vector<std::int64_t> out;
    out.reserve(r.samples.size());
    for (const client::Sample& s : r.samples) {
        out.push_back(static_cast<std::int64_t>(s.end - s.start));
    }
    return out;
}

struct Codes {
    client::GuestCode native, nested;
};
// Runs `what` with a guest of that mode that has the timer.
template <class What>
void with_timer(Mode mode, Interrupts interrupts, const Codes& codes, What what) {
    auto& host = front::Session::get().host();
    const u64 page = mode == Mode::nested ? front::apic_page(host) : 0;
    client::Plan plan = front::plan_with_apic(interrupts);
    if (mode == Mode::native) {
        plan = {.mode = mode, .arena_pages = 1};
    }
    Guest guest(host, plan);
    if (mode == Mode::nested) {
        front::give_apic(guest, page, interrupts);
    }
    front::take_timer(guest, note_time);
    guest.load(mode == Mode::native ? codes.native : codes.nested);
    what(guest);
}

constexpr u64 warm_up = 8; // firings

using Measure = void (*)(Mode, Interrupts, Measurement&);

void deadline(Mode mode, Interrupts interrupts, Measurement& m) {
    const u64 exits = interrupts == Interrupts::exit ? 1 : 0;
    with_timer(mode, interrupts, {native_deadlines, guest_deadlines}, [&](Guest& guest) {
        static_cast<void>(firings(guest, mode, warm_up, exits));
        m.due = Due{.ticks = wait, .timer = "IA32_TSC_DEADLINE"};
        m.samples = firings(guest, mode, m.n, exits);
    });
}

// What a count is in TSC ticks comes from runs of n and 2n counts.
void count_down(Mode mode, Interrupts interrupts, Measurement& m) {
    constexpr u64 counts = 10'000;
    const u64 exits = interrupts == Interrupts::exit ? 1 : 0;
    with_timer(mode, interrupts, {native_counts, guest_counts}, [&](Guest& guest) {
        guest.state.gpr[abi::r11] = counts;
        static_cast<void>(firings(guest, mode, warm_up, exits));
        m.samples = firings(guest, mode, m.n, exits);
        guest.state.gpr[abi::r11] = 2 * counts;
        const auto twice = firings(guest, mode, m.n, exits);
        const double due = quantile(twice, 0.5) - quantile(m.samples, 0.5);
        m.due = Due{.ticks = static_cast<u64>(std::llround(due)),
                    .step = static_cast<u64>(std::llround(due / counts)),
                    .timer = "the local APIC's, " + std::to_string(counts) + " counts"};
        for (auto& sample : m.samples) {
            sample -= static_cast<std::int64_t>(m.due->ticks);
        }
    });
}

Row timer_row(const char* name, Measure what, Interrupts interrupts) {
    const bool exits = interrupts == Interrupts::exit, by_deadline = what == deadline;
    Row row{.name = name, .missing = by_deadline ? front::no_tsc_deadline : front::no_apic_timer};
    row.rests_on = {by_deadline ? "TimerDeadline.fires_once_and_not_before_its_time"
                                : "TimerApic.one_shot_fires_once",
                    exits ? "TimerApicGuest.interrupts_that_exit_are_handed_on"
                          : "TimerApicGuest.interrupts_that_do_not_exit_are_the_guests"};
    row.modes = exits ? std::vector{Mode::nested} : std::vector{Mode::native, Mode::nested};
    row.by_itself = [=](Mode mode, u64, Measurement& m) {
        what(mode, interrupts, m);
        m.stamp_cost = 0; // nothing is taken off
        m.reason = "from the due time to the handler's stamp: nothing to split, no slope";
        summarize_net(m);
    };
    return row;
}

const Declare deadline_direct{timer_row("timer.tsc_deadline", deadline, Interrupts::direct)};
const Declare deadline_exit{timer_row("timer.tsc_deadline_exit", deadline, Interrupts::exit)};
const Declare one_shot_direct{timer_row("timer.apic_one_shot", count_down, Interrupts::direct)};
const Declare one_shot_exit{timer_row("timer.apic_one_shot_exit", count_down, Interrupts::exit)};

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
