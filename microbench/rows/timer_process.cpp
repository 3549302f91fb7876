// SPDX-License-Identifier: MIT
// Timers and wake-ups as a process of this machine sees them, for scale: the kernel's scheduler and, inside a
// virtual machine, the hypervisor's are in every number. No guest and no signal is involved.
#include "microbench/measure/measurement.hpp"
#include "refhv/front/guests/page_chase.hpp"

#include <atomic>
#include <ctime>
#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <x86intrin.h>

namespace refhv::bench {

using abi::Mode;

namespace {

u64 stamp() {
    _mm_lfence();
    const u64 now = __rdtsc();
    _mm_lfence();
    return now;
}

Row process_row(const char* name, std::function<void(u64, Measurement&)> what) {
    Row row{.name = name};
    row.modes = {Mode::user};
    row.rests_on = {"UserStamps.are_ordered_and_complete"};
    row.by_itself = [what = std::move(what)](Mode, u64 asked, Measurement& m) {
        what(asked, m);
        m.stamp_cost = 0; // nothing is taken off
        summarize_net(m);
    };
    return row;
}

// Looks at the TSC until the time has come: what interrupts, or the loop itself, makes of it.
const Declare busy_wait{process_row("timer.busy_wait", [](u64 asked, Measurement& m) {
    const front::Pinned pinned;
    constexpr u64 wait = 100'000;
    m.n = asked;
    m.due = Due{.ticks = wait, .timer = "a loop that reads the TSC"};
    for (u64 i = 0; i < asked; ++i) {
        const u64 due = stamp() + wait;
        u64 now = 0;
        while ((now = stamp()) < due) {
        }
        m.samples.push_back(static_cast<std::int64_t>(now - due));
    }
    m.reason = "a process, not a guest: how late a loop sees its time come, interrupts included";
})};

// The kernel's timer slack, in ns: 50,000 unless somebody changed it; 1 asks for none.
class Slack {
  public:
    explicit Slack(unsigned long wanted) : before_(::prctl(PR_GET_TIMERSLACK)) {
        ::prctl(PR_SET_TIMERSLACK, wanted);
    }
    Slack(const Slack&) = delete;
    Slack& operator=(const Slack&) = delete;
    ~Slack() { ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(before_)); }

  private:
    int before_;
};

void sleep_late(long nanoseconds, unsigned long slack, u64 asked, Measurement& m) {
    const u64 hz = front::Session::get().hello().fixed.tsc_hz;
    if (hz == 0) {
        throw NotHere("the rate of the TSC is not known");
    }
    const front::Pinned pinned;
    const Slack set(slack);
    constexpr u64 divisor = 4; // a sample takes a good part of a millisecond
    constexpr double per_second = 1e9;
    m.n = std::max<u64>(1, asked / divisor);
    m.due = Due{.ticks =
                    static_cast<u64>(static_cast<double>(nanoseconds) * static_cast<double>(hz) / per_second),
                .timer = "clock_nanosleep, CLOCK_MONOTONIC, timer slack " + std::to_string(slack) + " ns"};
    const timespec wait{.tv_sec = 0, .tv_nsec = nanoseconds};
    for (u64 i = 0; i < m.n; ++i) {
        const u64 before = stamp();
        if (const int error = ::clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, nullptr); error != 0) {
            throw Invalid("clock_nanosleep failed with error " + std::to_string(error));
        }
        m.samples.push_back(static_cast<std::int64_t>(stamp() - before - m.due->ticks));
    }
    m.reason = "a process, not a guest: from the call to behind it, less the time asked for";
}

constexpr long tenth_of_a_millisecond = 100'000;
constexpr unsigned long usual_slack = 50'000, no_slack = 1;
const Declare sleep_row{process_row("timer.sleep", [](u64 asked, Measurement& m) {
    sleep_late(tenth_of_a_millisecond, usual_slack, asked, m);
})};
const Declare sleep_exact{process_row("timer.sleep_without_slack", [](u64 asked, Measurement& m) {
    sleep_late(tenth_of_a_millisecond, no_slack, asked, m);
})};

// Two threads hand a turn to and fro. Only one of them reads the TSC, so clocks of two CPUs are not compared:
// a sample is there and back, two wake-ups.
struct Turn {
    alignas(64) std::atomic<u32> whose{0};

    void pass(u32 to) {
        whose.store(to, std::memory_order_release);
        ::syscall(SYS_futex, &whose, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
    void wait(u32 mine) {
        for (u32 now = 0; (now = whose.load(std::memory_order_acquire)) != mine;) {
            ::syscall(SYS_futex, &whose, FUTEX_WAIT_PRIVATE, now, nullptr, nullptr, 0);
        }
    }
    void pass_polled(u32 to) { whose.store(to, std::memory_order_release); }
    void wait_polled(u32 mine) {
        while (whose.load(std::memory_order_acquire) != mine) {
            _mm_pause();
        }
    }
};

std::vector<int> allowed_cpus() {
    cpu_set_t set;
    std::vector<int> out;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &set)) {
                out.push_back(cpu);
            }
        }
    }
    return out;
}

bool run_on(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return ::sched_setaffinity(0, sizeof one, &one) == 0;
}

enum class Where : u8 {
    same_cpu,
    other_cpu,
};

void turns(bool polled, Where where, u64 asked, Measurement& m) {
    const auto cpus = allowed_cpus();
    const bool other = where == Where::other_cpu;
    if (cpus.empty() || (other && cpus.size() < 2)) {
        throw NotHere("this process may use one CPU only");
    }
    const front::Pinned pinned; // to the last of them
    constexpr u32 ours = 0, theirs = 1;
    Turn turn;
    std::atomic<bool> placed{true};
    m.n = asked;
    m.batch = 2;
    std::thread peer([&, cpu = other ? cpus.front() : cpus.back()] {
        placed = run_on(cpu);
        for (u64 i = 0; i < asked + 1; ++i) {
            polled ? turn.wait_polled(theirs) : turn.wait(theirs);
            polled ? turn.pass_polled(ours) : turn.pass(ours);
        }
    });
    for (u64 i = 0; i < asked + 1; ++i) {
        const u64 before = stamp();
        polled ? turn.pass_polled(theirs) : turn.pass(theirs);
        polled ? turn.wait_polled(ours) : turn.wait(ours);
        const u64 after = stamp();
        if (i != 0) { // the first waits for the thread to be there
            m.samples.push_back(static_cast<std::int64_t>(after - before));
        }
    }
    peer.join();
    if (!placed) {
        throw Invalid("the other thread could not be put on its CPU");
    }
    m.reason = "a process, not a guest: half of a turn to another thread and back";
}

const Declare futex{
    process_row("wake.futex", [](u64 asked, Measurement& m) { turns(false, Where::other_cpu, asked, m); })};
const Declare futex_same_cpu{process_row(
    "wake.futex_same_cpu", [](u64 asked, Measurement& m) { turns(false, Where::same_cpu, asked, m); })};
// A line that goes from one CPU's cache to the other's: what a wake-up cannot be quicker than.
const Declare polled{
    process_row("wake.polled", [](u64 asked, Measurement& m) { turns(true, Where::other_cpu, asked, m); })};

} // namespace

} // namespace refhv::bench
