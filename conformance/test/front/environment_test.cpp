// SPDX-License-Identifier: MIT
// The fields of a record's environment (refhv/front/doctor/environment.hpp), from machines made of files.
#include "conformance/test/front/file_machine.hpp"
#include "refhv/front/doctor/environment.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace refhv::front::doctor {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

class EnvironmentTest : public FileMachine {
  protected:
    [[nodiscard]] Host host() const { return {root, {}}; }

    static constexpr const char* cpus = "sys/devices/system/cpu/";
};

TEST_F(EnvironmentTest, what_the_kernel_tells_are_fields) {
    const std::string at = cpus;
    put(at + "cpu0/cpufreq/scaling_governor", "performance\n");
    put(at + "cpu3/cpufreq/scaling_governor", "powersave\n");
    put(at + "cpu3/topology/thread_siblings_list", "3,11\n");
    put(at + "intel_pstate/no_turbo", "1\n");
    put(at + "smt/active", "1\n");
    put(at + "isolated", "\n");
    put(at + "vulnerabilities/mds", "Mitigation: Clear CPU buffers\n");
    put(at + "vulnerabilities/retbleed", "Vulnerable\n");
    put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "16\n");
    put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    const ordered_json expected = {
        {"governor", "performance, powersave"},
        {"turbo", false},
        {"smt", true},
        {"cpu", 3},
        {"cpu_siblings", "3,11"},
        {"isolated", ""},
        {"mitigations", {{"mds", "Mitigation: Clear CPU buffers"}, {"retbleed", "Vulnerable"}}},
        {"huge_pages", {{"transparent", "madvise"}, {"reserved_2m", 16}, {"reserved_1g", nullptr}}},
        {"clock_source", "tsc"}};
    EXPECT_EQ(environment(host(), 3), expected) << environment(host(), 3).dump(1);
    put(at + "intel_pstate/no_turbo", "0\n");
    EXPECT_EQ(environment(host(), 3).at("turbo"), true);
    fs::remove_all(root / (at + "intel_pstate"));
    put(at + "cpufreq/boost", "0\n");
    EXPECT_EQ(environment(host(), 3).at("turbo"), false) << "the other driver's switch is not inverted";
}

TEST_F(EnvironmentTest, what_is_not_told_is_null) {
    const ordered_json found = environment(host(), std::nullopt);
    for (const auto& [name, value] : found.items()) {
        if (name == "huge_pages") {
            for (const auto& [of, pages] : value.items()) {
                EXPECT_TRUE(pages.is_null()) << of;
            }
        } else {
            EXPECT_TRUE(value.is_null()) << name << ": " << value;
        }
    }
    EXPECT_EQ(found.size(), 9u);
}

TEST_F(EnvironmentTest, hostile_files_are_no_fields_of_theirs) {
    const std::string at = cpus;
    put(at + "vulnerabilities/<script>", "Vulnerable\n");
    put(at + "intel_pstate/no_turbo", "2\n");
    put(at + "smt/active", "yes\n");
    put("sys/kernel/mm/transparent_hugepage/enabled", "] [always\n");
    put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "99999999999999999999\n");
    put("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "-1\n");
    const ordered_json found = environment(host(), 0);
    for (const char* const name : {"mitigations", "turbo", "smt"}) {
        EXPECT_TRUE(found.at(name).is_null()) << name;
    }
    for (const auto& [of, pages] : found.at("huge_pages").items()) {
        EXPECT_TRUE(pages.is_null()) << of << ": " << pages;
    }
}

TEST_F(EnvironmentTest, the_cpu_that_measures_follows_from_the_kind_of_target) {
    put("sys/module/refhv/parameters/cpu", "7\n");
    EXPECT_EQ(measuring_cpu(host(), "module"), 7u);
    put("sys/module/refhv/parameters/cpu", "-1\n");
    EXPECT_EQ(measuring_cpu(host(), "module"), std::nullopt);
    EXPECT_EQ(measuring_cpu(host(), "image"), std::nullopt);
    EXPECT_TRUE(measuring_cpu(host(), "process").has_value());
    EXPECT_EQ(measuring_cpu(host(), "process"), measuring_cpu(host(), "kvm"));
}

} // namespace
} // namespace refhv::front::doctor
