// SPDX-License-Identifier: MIT
#include "microbench/measure/machine_record.hpp"

#include "refhv/client/vendor.hpp"
#include "refhv/front/models.hpp"
#include "refhv/front/revision.hpp"
#include "refhv/x86/disturbance_msrs.hpp"

#include <CLI/Version.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sys/utsname.h>

namespace refhv::bench {

using nlohmann::ordered_json;

namespace {

using client::name_of;

const char* name_of(abi::BackendStatus status) {
    switch (status) {
    case abi::BackendStatus::usable:
        return "usable";
    case abi::BackendStatus::absent:
        return "absent";
    case abi::BackendStatus::locked_by_firmware:
        return "locked_by_firmware";
    case abi::BackendStatus::in_use:
        return "in_use";
    case abi::BackendStatus::lacking:
        return "lacking";
    }
    return "unknown";
}

const char* name_of(abi::TscSource source) {
    switch (source) {
    case abi::TscSource::unknown:
        break;
    case abi::TscSource::cpuid_15h:
        return "cpuid_15h";
    case abi::TscSource::cpuid_16h:
        return "cpuid_16h";
    case abi::TscSource::hypervisor_leaf:
        return "hypervisor_leaf";
    case abi::TscSource::calibrated:
        return "calibrated";
    }
    return nullptr;
}

ordered_json text_or_null(const std::string& text) {
    return text.empty() ? ordered_json() : ordered_json(text);
}

std::string first_line(const char* path) {
    std::string line;
    std::getline(std::ifstream(path) >> std::ws, line);
    return line;
}

// Over 1, 5 and 15 minutes; what follows in the file is of the moment.
std::string load_average() {
    const std::string line = first_line("/proc/loadavg");
    return std::regex_replace(line, std::regex("^((\\S+ ){2}\\S+).*"), "$1");
}

// What the firmware calls this machine, which in a cloud is the type of the instance; "" where it does not.
std::string instance() {
    const std::string vendor = first_line("/sys/class/dmi/id/sys_vendor");
    const std::string product = first_line("/sys/class/dmi/id/product_name");
    return vendor.empty() || product.empty() || product.starts_with(vendor) ? product
                                                                            : vendor + " " + product;
}

std::string kernel_release() {
    utsname u{};
    return ::uname(&u) == 0 ? std::string(u.sysname) + " " + u.release : "";
}

// Threads per core: CPUID leaf 0BH subleaf 0 (SMT level), 1 where it is not offered.
u32 threads_per_core(const client::HelloInfo& hello) {
    return std::max(1u, front::cpuid(hello, 0xb, 0, 1) & 0xffff);
}

// MSRs that say what the machine mitigates. Numbers: SDM 4.
bool is_mitigation_msr(u32 index) {
    constexpr u32 spec_ctrl = 0x48, arch_capabilities = 0x10a, tsx_ctrl = 0x122, mcu_opt_ctrl = 0x123;
    return index == spec_ctrl || index == arch_capabilities || index == tsx_ctrl || index == mcu_opt_ctrl;
}

} // namespace

std::string machine_key(const client::HelloInfo& hello, bool apart) {
    const front::Signature s = front::signature_of(hello);
    constexpr u32 la57_bit = 1u << 16; // CPUID.07H:ECX
    ordered_json facts{s.vendor,
                       s.family,
                       s.model,
                       s.stepping,
                       front::brand_of(hello),
                       hello.fixed.microcode,
                       front::hypervisor_of(hello),
                       threads_per_core(hello),
                       (front::cpuid(hello, 7, 0, 2) & la57_bit) != 0 ? 5 : 4,
                       apart ? "" : kernel_release()};
    for (const auto& msr : hello.msrs) {
        if (is_mitigation_msr(msr.index) && msr.present != 0) {
            facts.push_back({msr.index, msr.value});
        }
    }
    u64 hash = 0xcbf2'9ce4'8422'2325;
    for (const unsigned char c : facts.dump(-1, ' ', false, ordered_json::error_handler_t::replace)) {
        hash = (hash ^ c) * 0x100'0000'01b3;
    }
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    return text;
}

static ordered_json tsc_of_cpus(const client::HelloInfo& hello) {
    ordered_json out = ordered_json::array();
    for (const abi::CpuInfo& cpu : hello.cpus) {
        out.push_back({{"apic_id", cpu.apic_id}, {"offset", cpu.tsc_offset}, {"error", cpu.tsc_error}});
    }
    return out;
}

ordered_json machine_record(const client::HelloInfo& hello, bool apart) {
    const auto& fixed = hello.fixed;
    const front::Signature s = front::signature_of(hello);
    ordered_json cpuid = ordered_json::array();
    for (const auto& l : hello.cpuid) {
        cpuid.push_back({{"leaf", l.leaf},
                         {"subleaf", l.subleaf},
                         {"eax", l.eax},
                         {"ebx", l.ebx},
                         {"ecx", l.ecx},
                         {"edx", l.edx}});
    }
    ordered_json capabilities = ordered_json::array();
    for (const auto& msr : hello.msrs) {
        if (x86::msr::is_of_a_moment(msr.index)) {
            continue; // no capability; `disturbances` has them
        }
        capabilities.push_back(
            {{"msr", msr.index}, {"value", msr.present != 0 ? ordered_json(msr.value) : ordered_json()}});
    }
    const std::string note(fixed.note, strnlen(fixed.note, sizeof fixed.note));
    const char* const source = name_of(static_cast<abi::TscSource>(fixed.tsc_source));
    return {{"machine_key", machine_key(hello, apart)},
            {"name", front::machine_name(hello)},
            {"vendor", s.vendor},
            {"family", s.family},
            {"model", s.model},
            {"stepping", s.stepping},
            {"brand", text_or_null(front::brand_of(hello))},
            {"cpuid", cpuid},
            {"libcpuid", libcpuid_reading(hello)},
            {"virtualization",
             {{"vendor", name_of(static_cast<abi::Vendor>(fixed.vendor))},
              {"status", name_of(static_cast<abi::BackendStatus>(fixed.status))},
              {"capabilities", capabilities},
              {"note", text_or_null(note)}}},
            {"microcode", fixed.microcode != 0 ? ordered_json(fixed.microcode) : ordered_json()},
            {"hypervisor", text_or_null(front::hypervisor_of(hello))},
            {"tsc_hz", fixed.tsc_hz != 0 ? ordered_json(fixed.tsc_hz) : ordered_json()},
            {"tsc_source", source != nullptr ? ordered_json(source) : ordered_json()},
            {"cpus", fixed.cpus},
            {"tsc_of_cpus", tsc_of_cpus(hello)}};
}

ordered_json environment_record(const client::TargetInfo& info, const ordered_json& facts) {
    const bool here = !info.emulated && !info.elsewhere;
    ordered_json out{{"kernel", text_or_null(kernel_release())},
                     {"instance", text_or_null(here ? instance() : "")},
                     {"load_average", text_or_null(load_average())},
                     {"launcher", text_or_null(info.description)},
                     {"revision", front::revision()},
                     {"compiler", __VERSION__},
                     {"nlohmann_json", std::to_string(NLOHMANN_JSON_VERSION_MAJOR) + "." +
                                           std::to_string(NLOHMANN_JSON_VERSION_MINOR) + "." +
                                           std::to_string(NLOHMANN_JSON_VERSION_PATCH)},
                     {"cli11", CLI11_VERSION}};
    if (!info.elsewhere && facts.is_object()) {
        out.update(facts);
    }
    return out;
}

} // namespace refhv::bench
