// SPDX-License-Identifier: MIT
#include "refhv/self/deadline.hpp"

#include "refhv/self/run.hpp"

#include <sys/resource.h>

namespace refhv::client::self {

void set_timer(timer_t timer, u64 ns) {
    itimerspec time{};
    time.it_value = {.tv_sec = static_cast<time_t>(ns / 1'000'000'000),
                     .tv_nsec = static_cast<long>(ns % 1'000'000'000)};
    time.it_interval.tv_nsec = ns != 0 ? 1'000'000 : 0;
    timer_settime(timer, 0, &time, nullptr);
}

u64 deadline_ns(const abi::Run& run, u64 tsc_hz) {
    constexpr u64 most = longest_run_seconds * 1'000'000'000;
    if (run.deadline == 0 || tsc_hz == 0) {
        return most;
    }
    const auto ns = static_cast<unsigned __int128>(run.deadline) * 1'000'000'000 / tsc_hz;
    return ns == 0 ? 1 : ns > most ? most : static_cast<u64>(ns);
}

u64 involuntary_switches() {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    return static_cast<u64>(usage.ru_nivcsw);
}

} // namespace refhv::client::self
