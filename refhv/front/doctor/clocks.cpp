// SPDX-License-Identifier: MIT
// Whether a cycle of the TSC means the same from one sample to the next.
#include "refhv/front/doctor/doctor.hpp"

#include <algorithm>
#include <map>

namespace refhv::front::doctor {
namespace {

constexpr const char* cpus = "sys/devices/system/cpu";

// What cannot be asked for here is the hypervisor's business, or nobody's.
void not_told(const Host& host, Findings& out, const std::string& name, const std::string& what) {
    const bool guest = !host.hypervisor().empty();
    out.push_back({name, State::warn, join({what, guest ? "; it is the hypervisor's to set" : ""}),
                   guest ? "set it on the host of this virtual machine" : "set it in the firmware's setup"});
}

void governor(const Host& host, Findings& out) {
    std::map<std::string, unsigned> governors;
    for (const std::string& cpu : host.names(cpus, "cpu")) {
        if (const auto governor = host.line(join({cpus, "/", cpu, "/cpufreq/scaling_governor"}))) {
            ++governors[governor->empty() ? "of no name" : *governor];
        }
    }
    if (governors.empty()) {
        not_told(host, out, "governor", "this kernel sets no frequency (there is no cpufreq)");
        return;
    }
    std::string text;
    for (const auto& [name, count] : governors) {
        text += join(
            {text.empty() ? "" : ", ", name, " on ", std::to_string(count), count == 1 ? " CPU" : " CPUs"});
    }
    const bool steady = governors.size() == 1 && governors.begin()->first == "performance";
    out.push_back({"governor", steady ? State::ok : State::warn, text,
                   steady ? "" : "cpupower frequency-set -g performance"});
}

void turbo(const Host& host, Findings& out) {
    const auto no_turbo = host.line(join({cpus, "/intel_pstate/no_turbo"}));
    const auto boost = host.line(join({cpus, "/cpufreq/boost"}));
    if (!no_turbo && !boost) {
        not_told(host, out, "turbo",
                 "whether the frequency is boosted is not known: the kernel has no switch for it");
        return;
    }
    const bool off = no_turbo ? *no_turbo == "1" : *boost == "0";
    const bool on = no_turbo ? *no_turbo == "0" : *boost == "1";
    out.push_back({"turbo", off ? State::ok : State::warn,
                   off  ? "off"
                   : on ? "on: core cycles and TSC cycles drift apart with load and heat"
                        : join({"the kernel says '", no_turbo ? *no_turbo : *boost, "'"}),
                   off        ? ""
                   : no_turbo ? "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo"
                              : "echo 0 > /sys/devices/system/cpu/cpufreq/boost"});
}

void clock_source(const Host& host, Findings& out) {
    constexpr u32 power_leaf = 0x8000'0007;
    const bool invariant = (host.cpuid(power_leaf, 0, 3) >> 8 & 1) != 0; // SDM 3B 18.17.1
    out.push_back(
        {"tsc", invariant ? State::ok : State::warn,
         invariant ? "invariant, by CPUID"
                   : "CPUID does not say that it is invariant: its rate may change with the frequency",
         invariant
             ? ""
             : "keep the frequency constant (governor performance, turbo off), or use another machine"});
    const std::string directory = "sys/devices/system/clocksource/clocksource0";
    const auto current = host.line(directory + "/current_clocksource");
    if (!current) {
        out.push_back({"clock-source", State::warn,
                       "the kernel's clock source is not known: /sys does not tell",
                       "mount -t sysfs sysfs /sys"});
        return;
    }
    const std::string offered =
        join({" ", host.line(directory + "/available_clocksource").value_or(""), " "});
    const bool tsc = *current == "tsc";
    const bool could = offered.find(" tsc ") != offered.npos;
    out.push_back(
        {"clock-source", tsc ? State::ok : State::warn,
         join({*current, tsc || could ? "" : ", and the kernel offers no tsc: it found the TSC unfit"}),
         tsc     ? ""
         : could ? "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource"
                 : "dmesg | grep -i tsc tells why"});
}

} // namespace

void examine_clocks(const Host& host, Findings& out) {
    governor(host, out);
    turbo(host, out);
    clock_source(host, out);
}

} // namespace refhv::front::doctor
