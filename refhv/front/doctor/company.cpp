// SPDX-License-Identifier: MIT
// What else runs on the CPU that measures.
#include "refhv/front/doctor/doctor.hpp"

#include <cstdlib>

namespace refhv::front::doctor {
namespace {

constexpr const char* cpus = "sys/devices/system/cpu";

// The CPU on which `self` measures: the last of those that are online.
std::string measured_cpu(const Host& host) {
    const std::string online = host.line(join({cpus, "/online"})).value_or("0");
    const std::string last = online.substr(online.find_last_of(",-") + 1);
    const bool number = !last.empty() && last.size() < 6 && last.find_first_not_of("0123456789") == last.npos;
    return number ? last : std::string(1, '0');
}

void smt(const Host& host, Findings& out) {
    const auto control = host.line(join({cpus, "/smt/control"}));
    const auto active = host.line(join({cpus, "/smt/active"}));
    if (!control && !active) {
        out.push_back({"smt", State::warn, "whether CPUs share cores is not known: the kernel does not tell",
                       "boot with nosmt where they may"});
        return;
    }
    if (active.value_or("1") == "0") {
        out.push_back({"smt", State::ok,
                       join({"no CPU shares its core", control ? join({" (control: ", *control, ")"}) : "",
                             host.hypervisor().empty() ? "" : ", by the hypervisor's word"}),
                       ""});
        return;
    }
    const std::string cpu = measured_cpu(host);
    const auto siblings = host.line(join({cpus, "/cpu", cpu, "/topology/thread_siblings_list"}));
    const bool alone = siblings && *siblings == cpu;
    out.push_back({"smt", alone ? State::ok : State::warn,
                   alone ? join({"CPU ", cpu, ", which measures, has its core to itself"})
                         : join({"CPU ", cpu, ", which measures, shares its core",
                                 siblings ? join({" (CPUs ", *siblings, ")"}) : "",
                                 ": what runs on a sibling shows in the numbers"}),
                   alone ? "" : "echo off > /sys/devices/system/cpu/smt/control"});
}

void isolation(const Host& host, Findings& out) {
    const std::string cpu = measured_cpu(host);
    const std::string isolated = host.line(join({cpus, "/isolated"})).value_or("");
    const std::string full = host.line(join({cpus, "/nohz_full"})).value_or("");
    const bool ticks = full.empty() || full == "(null)";
    const std::string options = join({"boot with isolcpus=", cpu, " nohz_full=", cpu, " rcu_nocbs=", cpu});
    if (isolated.empty()) {
        out.push_back({"isolation", State::warn,
                       "no CPU is isolated: the scheduler and its tick interrupt what is measured", options});
    } else {
        out.push_back(
            {"isolation", ticks ? State::warn : State::ok,
             join({"isolated: ", isolated, "; without the scheduler's tick: ", ticks ? "none" : full}),
             ticks ? options : ""});
    }
}

void watchdog(const Host& host, Findings& out) {
    const auto value = host.line("proc/sys/kernel/nmi_watchdog");
    if (!value) {
        out.push_back({"nmi-watchdog", State::ok, "this kernel has none", ""});
        return;
    }
    const bool off = *value == "0";
    out.push_back({"nmi-watchdog", off ? State::ok : State::warn,
                   off ? "off" : "on: it takes a performance counter, and sends NMIs into what is measured",
                   off ? "" : "sysctl kernel.nmi_watchdog=0"});
}

void load(const Host& host, Findings& out) {
    constexpr double busy = 0.5;
    const auto text = host.line("proc/loadavg");
    char* end = nullptr;
    const double minute = text ? std::strtod(text->c_str(), &end) : 0;
    if (!text || end == text->c_str()) {
        out.push_back(
            {"load", State::warn, "the load is not known: /proc does not tell", "mount -t proc proc /proc"});
        return;
    }
    const std::string number = text->substr(0, text->find(' '));
    const bool idle = minute >= 0 && minute < busy;
    out.push_back({"load", idle ? State::ok : State::warn,
                   join({number, " tasks ran on average in the last minute",
                         idle ? "" : ": others take the CPU, the cache and the memory"}),
                   idle ? "" : "end what else runs here (top shows it)"});
}

} // namespace

void examine_company(const Host& host, Findings& out) {
    smt(host, out);
    isolation(host, out);
    watchdog(host, out);
    load(host, out);
}

} // namespace refhv::front::doctor
