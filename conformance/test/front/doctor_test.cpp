// SPDX-License-Identifier: MIT
// The doctor (refhv/front/doctor) on machines made of files: one that is fit, one that is not, an empty one,
// and one whose files hold whatever somebody likes.
#include "conformance/test/front/file_machine.hpp"
#include "refhv/front/doctor/doctor.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

namespace refhv::front::doctor {
namespace {

namespace fs = std::filesystem;

constexpr u32 vmx_bit = 1u << 5, hypervisor_bit = 1u << 31, svm_bit = 1u << 2, invariant_bit = 1u << 8;

client::HelloInfo cpu(u32 features, u32 extended, u32 power) {
    client::HelloInfo info;
    info.cpuid = {{.leaf = 1, .subleaf = 0, .eax = 0, .ebx = 0, .ecx = features, .edx = 0},
                  {.leaf = 0x8000'0001, .subleaf = 0, .eax = 0, .ebx = 0, .ecx = extended, .edx = 0},
                  {.leaf = 0x8000'0007, .subleaf = 0, .eax = 0, .ebx = 0, .ecx = 0, .edx = power}};
    return info;
}

class DoctorTest : public FileMachine {
  protected:
    void put_msr(u32 index, u64 value) {
        fs::create_directories(root / "dev/cpu/0");
        std::fstream file(root / "dev/cpu/0/msr", std::ios::out | std::ios::binary);
        file.seekp(index);
        file.write(reinterpret_cast<const char*>(&value), sizeof value);
    }

    // What a machine for measuring has.
    void make_fit() {
        put("proc/sys/kernel/osrelease", "6.1.0-1-amd64\n");
        put("proc/sys/kernel/nmi_watchdog", "0\n");
        put("proc/modules", "ext4 1 2 - Live 0x0\n");
        put("proc/loadavg", "0.02 0.10 0.20 1/100 1\n");
        std::string flags; // as many as CPUs have
        for (int i = 0; i < 300; ++i) {
            flags += "flag" + std::to_string(i) + " ";
        }
        put("proc/cpuinfo", "flags\t\t: " + flags + "vmx smx\nmicrocode\t: 0x2b\nmicrocode\t: 0x2b\n");
        put("lib/modules/6.1.0-1-amd64/build/Makefile", "");
        put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
        put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        put("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "2\n");
        const std::string cpus = "sys/devices/system/cpu/";
        for (const char* const n : {"cpu0", "cpu1", "cpu10"}) {
            put(cpus + n + "/cpufreq/scaling_governor", "performance\n");
        }
        put(cpus + "online", "0-10\n");
        put(cpus + "isolated", "10\n");
        put(cpus + "nohz_full", "10\n");
        put(cpus + "intel_pstate/no_turbo", "1\n");
        put(cpus + "smt/control", "off\n");
        put(cpus + "smt/active", "0\n");
        put(cpus + "vulnerabilities/meltdown", "Not affected\n");
        put(cpus + "vulnerabilities/mds", "Mitigation: Clear CPU buffers\n");
        const std::string clock = "sys/devices/system/clocksource/clocksource0/";
        put(clock + "current_clocksource", "tsc\n");
        put(clock + "available_clocksource", "tsc hpet\n");
        put("dev/kvm", "");
        put_msr(0x3a, 5);
    }
    [[nodiscard]] Findings fit() const { return examine({root, cpu(vmx_bit, 0, invariant_bit)}); }

    // The finding of one name, of a machine that is fit but for what a test has changed.
    [[nodiscard]] static Finding find(const Findings& findings, const std::string& name) {
        const auto at =
            std::find_if(findings.begin(), findings.end(), [&](auto& f) { return f.name == name; });
        return at == findings.end() ? Finding{name, State::ok, "not there", ""} : *at;
    }
    void expect(const std::string& name, State state, const std::string& text, const std::string& mend) {
        const Finding found = find(fit(), name);
        EXPECT_EQ(name_of(found.state), std::string(name_of(state))) << name << ": " << found.text;
        EXPECT_NE(found.text.find(text), std::string::npos) << name << ": " << found.text;
        EXPECT_NE(found.mend.find(mend), std::string::npos) << name << ": " << found.mend;
    }
};

void expect_well_formed(const Findings& findings) {
    EXPECT_GE(findings.size(), 15u);
    for (const Finding& f : findings) {
        EXPECT_EQ(f.state == State::ok, f.mend.empty()) << f.name << ": what is not OK has its mend";
        for (const std::string& text : {f.text, f.mend}) {
            EXPECT_LT(text.size(), 500u) << f.name;
            EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; }))
                << f.name;
        }
    }
    const auto names = record(findings).at("findings");
    EXPECT_EQ(names.size(), findings.size());
    EXPECT_EQ(nlohmann::json::parse(record(findings).dump()).at("findings").size(), findings.size());
}

TEST_F(DoctorTest, a_machine_that_is_fit_is_ok_throughout) {
    make_fit();
    const Findings findings = fit();
    expect_well_formed(findings);
    for (const Finding& f : findings) {
        EXPECT_EQ(f.state, State::ok) << f.name << ": " << f.text;
    }
    EXPECT_FALSE(any_blocked(findings));
    const std::string text = table(findings);
    EXPECT_EQ(text.find("->"), std::string::npos);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), static_cast<std::ptrdiff_t>(findings.size()));
}

TEST_F(DoctorTest, encrypted_memory_is_told_and_a_guest_with_it_is_warned) {
    make_fit();
    const auto on = [&](u32 eax, u32 asids) {
        client::HelloInfo info = cpu(0, svm_bit, invariant_bit);
        info.cpuid.push_back({.leaf = 0x8000'000a, .subleaf = 0, .eax = 1, .ebx = asids, .ecx = 0, .edx = 0});
        info.cpuid.push_back(
            {.leaf = 0x8000'001f, .subleaf = 0, .eax = eax, .ebx = 51 | 5u << 6, .ecx = 509, .edx = 100});
        return find(examine({root, info}), "encrypted-memory");
    };
    EXPECT_EQ(on(0, 0x8000).text, "none offered");
    EXPECT_NE(
        on(0xb, 0x8000)
            .text.find(
                "SME, SEV (509 guests, C-bit 51, 5 address bits fewer), SEV-ES (ASIDs below 100): offered"),
        std::string::npos);
    EXPECT_EQ(on(0xb, 0x8000).state, State::ok);
    EXPECT_EQ(on(0x9, 0x8000).state, State::warn);
    EXPECT_NE(on(0x9, 0x8000).text.find("SEV-ES without SEV"), std::string::npos);
    client::HelloInfo td = cpu(vmx_bit, 0, invariant_bit);
    td.cpuid.push_back(
        {.leaf = 0x21, .subleaf = 0, .eax = 0, .ebx = 0x65746e49, .ecx = 0x20202020, .edx = 0x5844546c});
    EXPECT_NE(find(examine({root, td}), "encrypted-memory").text.find("a trust domain of TDX"),
              std::string::npos);
}

TEST_F(DoctorTest, each_thing_that_is_wrong_is_told_with_its_mend) {
    make_fit();
    const std::string cpus = "sys/devices/system/cpu/";
    const auto with = [&](const std::string& path, const std::string& content, const char* name, State state,
                          const char* text, const char* mend) {
        std::string before;
        const bool was = fs::exists(root / path);
        if (was) {
            std::getline(std::ifstream(root / path, std::ios::binary), before, '\0');
        }
        put(path, content);
        expect(name, state, text, mend);
        was ? put(path, before) : void(fs::remove(root / path));
    };
    with("proc/modules", "kvm_intel 450560 3 - Live 0x0\n", "holder", State::blocked,
         "virtual machines use it", "then modprobe -r kvm_intel");
    with("proc/modules", "kvm_intel 450560 0 - Live 0x0\nkvm 1 1 kvm_intel", "holder", State::warn,
         "kvm_intel is loaded", "modprobe -r kvm_intel");
    with("proc/modules", "vboxdrv 1 1 - Live 0x0\n", "holder", State::blocked, "vboxdrv is loaded",
         "modprobe -r");
    with("sys/module/kvm_amd/x", "", "holder", State::warn, "built into this kernel",
         "enable_virt_at_load=0");
    fs::remove_all(root / "sys/module");
    with("sys/kernel/security/lockdown", "none [integrity] confidentiality", "lockdown", State::warn,
         "mode integrity", "sign the module");
    with("sys/kernel/security/lockdown", "what?", "lockdown", State::warn, "the kernel says 'what?'", "");
    with("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
         std::string("\6\0\0\0\1", 5), "secure-boot", State::warn, "on: the kernel takes signed modules only",
         "mokutil");
    with("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
         std::string("\6\0\0\0\0", 5), "secure-boot", State::ok, "off", "");
    with("proc/sys/kernel/osrelease", "6.9.9\n", "headers", State::warn,
         "/lib/modules/6.9.9/build has no Makefile", "apt-get install linux-headers-6.9.9");
    with(cpus + "cpu1/cpufreq/scaling_governor", "powersave\n", "governor", State::warn,
         "performance on 2 CPUs, powersave on 1 CPU", "cpupower frequency-set -g performance");
    with(cpus + "intel_pstate/no_turbo", "0\n", "turbo", State::warn,
         "on: ", "echo 1 > /sys/devices/system/cpu/intel_pstate");
    with(cpus + "isolated", "\n", "isolation", State::warn, "no CPU is isolated", "isolcpus=10 nohz_full=10");
    with(cpus + "nohz_full", "(null)\n", "isolation", State::warn, "without the scheduler's tick: none",
         "nohz_full=10");
    with(cpus + "smt/active", "1\n", "smt", State::warn, "CPU 10, which measures, shares its core",
         "echo off > /sys/devices/system/cpu/smt/control");
    with("proc/sys/kernel/nmi_watchdog", "1\n", "nmi-watchdog", State::warn, "on",
         "sysctl kernel.nmi_watchdog=0");
    with("proc/loadavg", "1.50 1 1 1/1 1\n", "load", State::warn, "1.50 tasks", "top");
    with("proc/cpuinfo", "microcode\t: 0x2b\nmicrocode\t: 0x2c\n", "microcode", State::warn,
         "0x2b, 0x2c: CPUs differ", "microcode");
    with(cpus + "vulnerabilities/retbleed", "Vulnerable\n", "mitigations", State::warn,
         "1 not affected, 1 mitigated; vulnerable: retbleed", "mitigations=off");
    with("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n", "huge-pages", State::warn,
         "rows with 2M pages will be SKIP", "echo madvise");
    with("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n", "giant-pages", State::warn,
         "rows with 1G pages will be SKIP", "echo 2 >");
    with("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n", "clock-source",
         State::warn, "hpet", "echo tsc >");
    for (const Finding& f : fit()) {
        EXPECT_EQ(f.state, State::ok) << f.name << " was not put back";
    }
    fs::remove(root / "dev/kvm");
    expect("kvm", State::warn, "there is no /dev/kvm", "modprobe kvm_intel");
    fs::remove(root / "proc/modules");
    expect("headers", State::blocked, "takes no modules", "boot a kernel of a distribution");
}

TEST_F(DoctorTest, the_firmwares_lock_is_read_from_its_msr) {
    make_fit();
    const auto firmware = [&](u32 features, u32 extended) {
        return find(examine({root, cpu(features, extended, 0)}), "firmware");
    };
    for (const auto& [value, state] : {std::pair{u64{0}, State::ok},
                                       {u64{1}, State::blocked},
                                       {u64{4}, State::ok},
                                       {u64{3}, State::blocked},
                                       {u64{5}, State::ok}}) {
        put_msr(0x3a, value);
        EXPECT_EQ(firmware(vmx_bit, 0).state, state) << value;
    }
    for (const auto& [value, state] :
         {std::pair{u64{0}, State::ok}, {u64{0x10}, State::blocked}, {u64{8}, State::ok}}) {
        put_msr(0xc001'0114, value);
        EXPECT_EQ(firmware(0, svm_bit).state, state) << value;
    }
    fs::remove_all(root / "dev/cpu");
    EXPECT_EQ(firmware(vmx_bit, 0).state, State::ok) << "by the kernel's word";
    put("proc/cpuinfo", "flags\t: fpu\n");
    EXPECT_EQ(firmware(vmx_bit, 0).state, State::warn);
    EXPECT_EQ(firmware(vmx_bit, 0).mend, "modprobe msr, and run this as root");
    EXPECT_EQ(firmware(0, 0).text, "not there") << "nothing to lock";
}

TEST_F(DoctorTest, a_virtual_machine_without_virtualization_is_blocked) {
    make_fit();
    const Findings findings = examine({root, cpu(hypervisor_bit, 0, 0)});
    expect_well_formed(findings);
    EXPECT_EQ(find(findings, "virtualization").state, State::blocked);
    EXPECT_NE(find(findings, "virtualization").mend.find("nested=1"), std::string::npos);
    EXPECT_EQ(find(findings, "hypervisor").state, State::warn);
    EXPECT_EQ(find(findings, "tsc").state, State::warn);
    EXPECT_NE(find(findings, "kvm").text.find("works by other means"), std::string::npos);
    EXPECT_TRUE(any_blocked(findings));
}

TEST_F(DoctorTest, an_empty_machine_says_what_is_not_known) {
    const Findings findings = fit();
    expect_well_formed(findings);
    EXPECT_NE(find(findings, "clock-source").text.find("not known"), std::string::npos);
    EXPECT_NE(find(findings, "load").text.find("not known"), std::string::npos);
    EXPECT_NE(find(findings, "mitigations").text.find("not known"), std::string::npos);
}

// Text of control characters, endless lines, directories, pipes and links to themselves where files are due.
TEST_F(DoctorTest, hostile_contents_do_no_harm) {
    make_fit();
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
        if (entry.is_regular_file()) {
            files.push_back(entry.path());
        }
    }
    ASSERT_GE(files.size(), 20u);
    const std::string hostile[] = {"",
                                   "\n\n\n",
                                   std::string(1'000'000, 'x'),
                                   "\x1b[31m\x07red\r\n\xff\xfe\x80",
                                   std::string(64, '\0'),
                                   "999999999999999999999999999999",
                                   "-1",
                                   "]none[",
                                   "Vulnerable \"]}{'; rm -rf /\n"};
    for (const std::string& content : hostile) {
        for (const fs::path& file : files) {
            std::ofstream(file, std::ios::binary) << content;
        }
        expect_well_formed(fit());
    }
    put("sys/devices/system/cpu/vulnerabilities/\x1b]0;title\x07", "Vulnerable");
    std::string revisions;
    for (int i = 0; i < 10'000; ++i) {
        revisions += "microcode\t: " + std::to_string(i) + "\n";
    }
    put("proc/cpuinfo", revisions);
    for (int i = 0; i < 300; ++i) {
        put("sys/devices/system/cpu/cpu" + std::to_string(i) + "/cpufreq/scaling_governor",
            std::to_string(i));
        put("sys/devices/system/cpu/vulnerabilities/v" + std::to_string(i), "?");
    }
    expect_well_formed(fit());
    const std::function<void(const fs::path&)> makers[] = {
        [](const fs::path& path) { fs::create_directory(path); },
        [](const fs::path& path) { mkfifo(path.c_str(), 0600); },
        [](const fs::path& path) { fs::create_symlink(path.filename(), path); },
        [](const fs::path& path) { fs::create_symlink("/dev/zero", path); },
    };
    for (const auto& make : makers) {
        for (const fs::path& file : files) {
            fs::remove_all(file);
            make(file);
        }
        expect_well_formed(fit());
    }
}

TEST_F(DoctorTest, this_machine_is_examined_too) {
    expect_well_formed(examine(Host::here()));
}

} // namespace
} // namespace refhv::front::doctor
