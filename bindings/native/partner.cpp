// SPDX-License-Identifier: MIT
// refhv-guest-run TARGET RUNS: the guest of ci/check-python from C++. Prints the median of a run in
// microseconds.
#include "refhv/client/guest/vm.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace {

using namespace refhv;

// The text is ci/check-python's, too.
GUEST(counted, "mov $10, %r9d\n1: xor %eax, %eax\n cpuid\n dec %r9d\n jnz 1b")

double median_of_runs(client::Target& target, unsigned runs) {
    client::GuestHost host{.target = target, .occupied = {}, .slot = 0};
    client::Guest guest(host, {.intercepts = client::on(abi::Intercept::cpuid),
                               .policy = {{.reason = static_cast<u16>(abi::Reason::cpuid),
                                           .action = static_cast<u8>(abi::Action::advance),
                                           .length = 2,
                                           .event = 0}}});
    guest.settle();
    guest.load(counted);
    std::vector<double> microseconds;
    for (unsigned i = 0; i < runs; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        const client::RunResult result = guest.run({});
        microseconds.push_back(
            std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
        if (result.count(abi::Reason::cpuid) != 10) {
            throw std::runtime_error("the guest did not exit 10 times");
        }
    }
    std::sort(microseconds.begin(), microseconds.end());
    return microseconds[runs / 2];
}

} // namespace

int main(int argc, char** argv) {
    const unsigned runs = argc == 3 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 0;
    if (runs == 0) {
        std::fputs("usage: refhv-guest-run TARGET RUNS\n", stderr);
        return 2;
    }
    try {
        const auto target = client::open_target(argv[1]);
        std::printf("%.1f\n", median_of_runs(*target, runs));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "refhv-guest-run: %s\n", e.what());
        return 3;
    }
    return 0;
}
