// SPDX-License-Identifier: MIT
#include "conformance/test/linux/faults.hpp"

#include "refhv/client/guest/guest.hpp"
#include "refhv/client/guest/vm.hpp"
#include "refhv/client/target.hpp"

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>

namespace refhv::test {
namespace {

constexpr const char* fail_step = "/sys/module/refhv/parameters/fail_step";

void set_step(unsigned step) {
    if (std::ofstream file(fail_step); !(file << step << std::flush)) {
        throw std::runtime_error(std::string(fail_step) + " cannot be written");
    }
}

bool step_came() {
    unsigned left = 1;
    std::ifstream(fail_step) >> left;
    return left == 0;
}

GUEST(cpuid, "cpuid")

} // namespace

bool exits_by_cpuid() {
    const auto target = client::open_target("linux");
    client::GuestHost host{.target = *target, .occupied = {}};
    client::Guest guest(host, {.intercepts = client::on(abi::Intercept::cpuid)});
    guest.load(cpuid);
    const client::RunResult result = guest.run({});
    return result.outcome == abi::Outcome::exited &&
           static_cast<abi::Reason>(result.reply.exit.reason) == abi::Reason::cpuid;
}

int try_faults() {
    unsigned step = 1, refused = 0;
    for (;; ++step) {
        set_step(step);
        try {
            if (!exits_by_cpuid()) {
                std::printf("step %u: the guest ends otherwise than by CPUID\n", step);
                return 1;
            }
        } catch (const std::runtime_error& refusal) {
            ++refused;
            std::printf("step %u: %s\n", step, refusal.what());
        }
        if (!step_came()) {
            break; // there are no more
        }
        if (!exits_by_cpuid()) {
            std::printf("behind step %u: the guest ends otherwise than by CPUID\n", step);
            return 1;
        }
    }
    set_step(0);
    std::printf("steps %u, refused %u\n", step - 1, refused);
    return 0;
}

} // namespace refhv::test
