// SPDX-License-Identifier: MIT
// Where the counters of disturbances are read.
#include "refhv/front/disturbances.hpp"
#include "refhv/front/session.hpp"
#include "refhv/x86/disturbance_msrs.hpp"

#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>
#include <x86intrin.h>

namespace refhv::front {
namespace {

constexpr const char* elsewhere = "the target may run on another machine";

Reading& at(Moment& moment, Counter counter) {
    return moment[static_cast<usize>(counter)];
}

Reading none(std::string reason) {
    return {std::nullopt, std::move(reason)};
}

// As the manuals say which CPU has it; empty: it has.
std::string why_not(const client::HelloInfo& leaves, u32 index) {
    const bool intel = cpuid(leaves, 0, 0, 1) == 0x756e'6547; // "Genu"
    switch (index) {
    case x86::msr::mperf:
    case x86::msr::aperf:
        return (cpuid(leaves, 6, 0, 2) & 1) != 0 ? "" : "CPUID.06H:ECX[0] is 0: no APERF and MPERF";
    case x86::msr::smi_count:
        return intel ? "" : "no CPU of this vendor counts SMIs in an MSR";
    case x86::msr::therm_status:
        return intel && (cpuid(leaves, 1, 0, 3) >> 22 & 1) != 0 ? "" : "no IA32_THERM_STATUS on this CPU";
    default:
        return intel && (cpuid(leaves, 6, 0, 0) >> 6 & 1) != 0 ? ""
                                                               : "no IA32_PACKAGE_THERM_STATUS on this CPU";
    }
}

Reading msr_of_hello(const std::vector<abi::MsrValue>& msrs, u32 index) {
    for (const abi::MsrValue& msr : msrs) {
        if (msr.index == index) {
            return msr.present != 0 ? Reading{msr.value, ""} : none("RDMSR raised #GP");
        }
    }
    return none("the target's hello lacks it");
}

Reading msr_of_device(const Source& source, u32 index) {
    const std::string path = (source.root / "dev/cpu" / std::to_string(*source.cpu) / "msr").string();
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return none(path + " cannot be read (modprobe msr, as root)");
    }
    u64 value = 0;
    const bool read = ::pread(file, &value, sizeof value, index) == sizeof value;
    ::close(file);
    return read ? Reading{value, ""} : none("RDMSR raised #GP");
}

Reading msr(const Source& source, u32 index) {
    if (std::string missing = why_not(*source.leaves, index); !missing.empty()) {
        return none(std::move(missing));
    }
    if (source.msrs != nullptr) {
        return msr_of_hello(*source.msrs, index);
    }
    return source.root.empty() || !source.cpu ? none(elsewhere) : msr_of_device(source, index);
}

Reading throttles(const Source& source, const char* which) {
    const auto path = source.root / "sys/devices/system/cpu" / ("cpu" + std::to_string(*source.cpu)) /
                      "thermal_throttle" / which;
    u64 count = 0;
    return std::ifstream(path) >> count ? Reading{count, ""} : none("the kernel counts none for this CPU");
}

// /proc/interrupts: a header that names the CPUs, and a line of counts for each cause.
void read_interrupts(const Source& source, Moment& moment) {
    std::ifstream file(source.root / "proc/interrupts");
    std::string line, word;
    std::getline(file, line);
    const std::string wanted = "CPU" + std::to_string(*source.cpu);
    usize column = 0, columns = 0;
    bool found = false;
    for (std::istringstream header(line); header >> word; ++columns) {
        if (word == wanted) {
            column = columns;
            found = true;
        }
    }
    if (!found) {
        for (const Counter counter : {Counter::interrupts, Counter::nmis}) {
            at(moment, counter) = none("/proc/interrupts has no " + wanted);
        }
        return;
    }
    u64 all = 0, nmis = 0;
    while (std::getline(file, line)) {
        std::istringstream fields(line);
        std::string label;
        fields >> label;
        std::vector<u64> counts;
        for (u64 count = 0; counts.size() < columns && fields >> count;) {
            counts.push_back(count);
        }
        if (counts.size() == columns) { // ERR and MIS are of the whole machine
            (label == "NMI:" ? nmis : all) += counts[column];
        }
    }
    at(moment, Counter::interrupts).value = all;
    at(moment, Counter::nmis).value = nmis;
}

// Both at once, as nearly as it goes: the closest of three.
void read_clocks(Moment& moment) {
    u64 shortest = ~u64{0};
    for (int i = 0; i < 3; ++i) {
        timespec now{};
        const u64 before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        const u64 after = __rdtsc();
        if (after - before < shortest) {
            shortest = after - before;
            at(moment, Counter::tsc) = {before + shortest / 2, ""};
            at(moment, Counter::clock_ns) = {
                static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec), ""};
        }
    }
}

} // namespace

Moment read_moment(const Source& source) {
    Moment moment;
    at(moment, Counter::smis) = msr(source, x86::msr::smi_count);
    if (auto& smis = at(moment, Counter::smis).value) {
        *smis &= 0xffff'ffff;
    }
    at(moment, Counter::aperf) = msr(source, x86::msr::aperf);
    at(moment, Counter::mperf) = msr(source, x86::msr::mperf);
    at(moment, Counter::therm_status) = msr(source, x86::msr::therm_status);
    at(moment, Counter::package_therm_status) = msr(source, x86::msr::package_therm_status);
    if (source.root.empty() || !source.cpu) {
        for (const Counter counter : {Counter::core_throttles, Counter::package_throttles,
                                      Counter::interrupts, Counter::nmis, Counter::tsc, Counter::clock_ns}) {
            at(moment, counter) = none(elsewhere);
        }
        return moment;
    }
    at(moment, Counter::core_throttles) = throttles(source, "core_throttle_count");
    at(moment, Counter::package_throttles) = throttles(source, "package_throttle_count");
    read_interrupts(source, moment);
    read_clocks(moment);
    return moment;
}

} // namespace refhv::front
