// SPDX-License-Identifier: MIT
#include "refhv/front/doctor/environment.hpp"

#include "refhv/front/doctor/finding.hpp"

#include <charconv>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <set>

namespace refhv::front::doctor {
namespace {

using nlohmann::ordered_json;

constexpr const char* cpus = "sys/devices/system/cpu";

std::optional<unsigned> number(const std::optional<std::string>& text) {
    unsigned value = 0;
    const char* const end = text ? text->data() + text->size() : nullptr;
    const auto read = text ? std::from_chars(text->data(), end, value) : std::from_chars_result{};
    return text && !text->empty() && read.ec == std::errc() && read.ptr == end ? std::optional(value)
                                                                               : std::nullopt;
}

template <class T>
ordered_json or_null(const std::optional<T>& value) {
    return value ? ordered_json(*value) : ordered_json();
}

// 1 and 0 of a switch; null for anything else.
ordered_json is_on(const std::optional<std::string>& text, bool inverted = false) {
    return text == "1" || text == "0" ? ordered_json((text == "1") != inverted) : ordered_json();
}

ordered_json governor(const Host& host) {
    std::set<std::string> found;
    for (const std::string& cpu : host.names(cpus, "cpu")) {
        if (auto name = host.line(join({cpus, "/", cpu, "/cpufreq/scaling_governor"}));
            name && !name->empty()) {
            found.insert(*std::move(name));
        }
    }
    std::string text;
    for (const std::string& name : found) {
        text += join({text.empty() ? "" : ", ", name});
    }
    return found.empty() ? ordered_json() : ordered_json(text);
}

ordered_json turbo(const Host& host) {
    const auto no_turbo = host.line(join({cpus, "/intel_pstate/no_turbo"}));
    return no_turbo ? is_on(no_turbo, true) : is_on(host.line(join({cpus, "/cpufreq/boost"})));
}

// By the kernel's name of the fault what it says of it: "Not affected", "Mitigation: ...".
ordered_json mitigations(const Host& host) {
    const std::string directory = join({cpus, "/vulnerabilities"});
    ordered_json out = ordered_json::object();
    for (const std::string& name : host.names(directory)) {
        const bool plain = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == name.npos;
        if (const auto state = host.line(join({directory, "/", name})); plain && state) {
            out[name] = *state;
        }
    }
    return out.empty() ? ordered_json() : out;
}

// The word in brackets: "always [madvise] never".
ordered_json chosen(const std::optional<std::string>& text) {
    const usize open = text ? text->find('[') : std::string::npos;
    const usize close = open == std::string::npos ? open : text->find(']', open);
    return close == std::string::npos ? ordered_json()
                                      : ordered_json(text->substr(open + 1, close - open - 1));
}

ordered_json huge_pages(const Host& host) {
    const auto reserved = [&](const char* size) {
        return or_null(
            number(host.line(join({"sys/kernel/mm/hugepages/hugepages-", size, "/nr_hugepages"}))));
    };
    return {{"transparent", chosen(host.line("sys/kernel/mm/transparent_hugepage/enabled"))},
            {"reserved_2m", reserved("2048kB")},
            {"reserved_1g", reserved("1048576kB")}};
}

// What this process may run on: a process that measures takes the last of them (client/self.cpp).
std::optional<unsigned> last_allowed() {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        for (unsigned cpu = CPU_SETSIZE; cpu-- > 0;) {
            if (CPU_ISSET(cpu, &allowed)) {
                return cpu;
            }
        }
    }
    return std::nullopt;
}

} // namespace

ordered_json environment(const Host& host, std::optional<unsigned> cpu) {
    const auto siblings =
        cpu ? host.line(join({cpus, "/cpu", std::to_string(*cpu), "/topology/thread_siblings_list"}))
            : std::nullopt;
    return {{"governor", governor(host)},
            {"turbo", turbo(host)},
            {"smt", is_on(host.line(join({cpus, "/smt/active"})))},
            {"cpu", or_null(cpu)},
            {"cpu_siblings", or_null(siblings)},
            {"isolated", or_null(host.line(join({cpus, "/isolated"})))},
            {"mitigations", mitigations(host)},
            {"huge_pages", huge_pages(host)},
            {"clock_source",
             or_null(host.line("sys/devices/system/clocksource/clocksource0/current_clocksource"))}};
}

std::optional<unsigned> measuring_cpu(const Host& host, const std::string& kind) {
    if (kind == "process" || kind == "kvm") {
        return last_allowed();
    }
    return kind == "module" ? number(host.line("sys/module/refhv/parameters/cpu")) : std::nullopt;
}

} // namespace refhv::front::doctor
