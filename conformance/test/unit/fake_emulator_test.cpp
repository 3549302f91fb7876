// SPDX-License-Identifier: MIT
// The launchers with a script in the emulator's place (REFHV_BOCHS, REFHV_QEMU): what they start and with
// what, and that an emulator that hangs, dies or speaks rubbish becomes a miss.
#include "refhv/client/bochs.hpp"
#include "refhv/client/process.hpp"
#include "refhv/client/target.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>

namespace refhv::client {
namespace {

namespace fs = std::filesystem;

class FakeEmulator : public testing::TestWithParam<const char*> {
  protected:
    fs::path directory;

    void SetUp() override {
        char name[] = "/tmp/refhv unit XXXXXX"; // with blanks, as a stranger's home may have
        ASSERT_NE(mkdtemp(name), nullptr);
        directory = name;
        std::ofstream(directory / "refhv.elf") << "an image";
        std::ofstream(directory / "refhv.iso") << "an image";
        setenv("REFHV_IMAGE_DIR", directory.c_str(), 1);
        for (const TargetEntry& entry : list_targets()) {
            if (entry.info.name == GetParam() &&
                entry.unusable.find("network namespace") != std::string::npos) {
                GTEST_SKIP() << entry.unusable;
            }
            if (entry.info.name == GetParam() && entry.unusable.find("/usr/share") == 0) {
                GTEST_SKIP() << entry.unusable; // Bochs's ROMs
            }
        }
    }
    void TearDown() override {
        for (const char* name : {"REFHV_IMAGE_DIR", "REFHV_PATIENCE", "REFHV_BOCHS", "REFHV_QEMU"}) {
            unsetenv(name);
        }
        fs::remove_all(directory);
    }

    // What hello() says when the emulator is this shell script.
    std::string miss_with(const std::string& script) {
        const fs::path program = directory / "emulator";
        { std::ofstream(program) << "#!/bin/sh\n" << script << "\n"; }
        fs::permissions(program, fs::perms::owner_all);
        setenv("REFHV_BOCHS", program.c_str(), 1);
        setenv("REFHV_QEMU", program.c_str(), 1);
        const auto target = open_target(GetParam());
        try {
            target->hello();
        } catch (const TargetMiss& miss) {
            std::string what = miss.what();
            EXPECT_EQ(what.find('\n'), std::string::npos);
            EXPECT_EQ(what.find(std::string(GetParam()) + ": "), 0u) << what;
            return what;
        }
        ADD_FAILURE() << "hello from a shell script";
        return {};
    }
    [[nodiscard]] static bool is_bochs() { return std::string_view(GetParam()).starts_with("bochs"); }
    // The child's descriptor that carries the machine's output.
    [[nodiscard]] static std::string output() { return is_bochs() ? "1" : "3"; }
};

INSTANTIATE_TEST_SUITE_P(Launchers, FakeEmulator, testing::Values("bochs-intel", "bochs-amd", "qemu-amd"),
                         [](const auto& info) {
                             std::string name = info.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

TEST_P(FakeEmulator, that_hangs) {
    setenv("REFHV_PATIENCE", "0.02", 1);
    const std::string what = miss_with("exec sleep 100");
    EXPECT_NE(what.find("no hello within 0." + std::string(is_bochs() ? "4" : "2") + " s; killed (process "),
              std::string::npos)
        << what;
    const auto at = what.find("(process ") + 9;
    EXPECT_FALSE(fs::exists("/proc/" + what.substr(at, what.find(')') - at)));
}

TEST_P(FakeEmulator, that_dies) {
    const std::string what = miss_with("echo 'line one' >&2; echo '[CPU0  ] the reason' >&2; exit 4");
    EXPECT_NE(what.find("ended before its hello; exit status 4; its log: [CPU0  ] the reason"),
              std::string::npos)
        << what;
}

TEST_P(FakeEmulator, that_prints_rubbish) {
    const std::string what = miss_with("while :; do echo rubbish; done >&" + output());
    EXPECT_NE(what.find("more than 65536 bytes of rubbish before its hello"), std::string::npos) << what;
    EXPECT_NE(what.find("it last said '"), std::string::npos) << what;
}

TEST_P(FakeEmulator, gets_no_descriptors_but_its_own) {
    const std::string report = (directory / "report").string();
    (void)miss_with("ls /proc/$$/fd > '" + report + "'; exit 1");
    std::ifstream file(report);
    std::set<int> descriptors;
    for (int fd = 0; file >> fd;) {
        if (fd < 10) { // the others are the shell's own, for the script that it reads
            descriptors.insert(fd);
        }
    }
    EXPECT_EQ(descriptors, (is_bochs() ? std::set{0, 1, 2, 3, 4, 5} : std::set{0, 1, 2, 3, 4}));
}

TEST_P(FakeEmulator, cannot_be_reached_from_the_network) {
    const std::string report = (directory / "report").string();
    const std::string ours = fs::read_symlink("/proc/self/ns/net").string();
    (void)miss_with("readlink /proc/$$/ns/net > '" + report + "'; echo \"$@\" >> '" + report + "'; exit 1");
    std::ifstream file(report);
    std::string network;
    std::string arguments;
    std::getline(file, network);
    std::getline(file, arguments);
    ASSERT_FALSE(network.empty());
    if (is_bochs()) {
        EXPECT_NE(network, ours);
    } else { // its own listens nowhere
        EXPECT_NE(arguments.find("-nodefaults -no-user-config -display none"), std::string::npos)
            << arguments;
        EXPECT_NE(arguments.find("socket,id=output,fd="), std::string::npos);
        EXPECT_EQ(arguments.find("-vnc"), std::string::npos);
        EXPECT_EQ(arguments.find("-net"), std::string::npos);
    }
}

TEST_P(FakeEmulator, finds_its_image_and_configuration) {
    const std::string report = (directory / "report").string();
    if (is_bochs()) {
        (void)miss_with("cat /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5 > '" + report + "'; exit 1");
    } else {
        (void)miss_with("while [ \"$1\" != -kernel ]; do shift; done; cat \"$2\" > '" + report + "'; exit 1");
    }
    std::ifstream file(report);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    EXPECT_NE(all.find("an image"), std::string::npos) << all;
    if (is_bochs()) {
        const std::string model =
            std::string_view(GetParam()) == "bochs-intel" ? "corei7_skylake_x" : "ryzen";
        EXPECT_NE(all.find("model=" + model + ","), std::string::npos);
        EXPECT_NE(all.find("dev=/dev/pts/"), std::string::npos);
        EXPECT_NE(all.find("\nc\n"), std::string::npos);
    }
}

// What an emulator of a later version answers when it is asked, before the script that is its machine.
const char* const of_today = R"(case "$*" in
  '--help cpu') printf 'Supported CPU models:\n\ncorei7_skylake_x\nryzen\n'; exit ;;
  --help) printf '  -debugger        start\n    Bochs x86 Emulator 30.5\n'; exit ;;
  --version) echo 'QEMU emulator version 30.5.1 (fake)'; exit ;;
  '-cpu help') echo 'Recognized CPUID flags: vmx-apicv-x2apic x2apic'; exit ;;
esac
)";
const char* const of_yesterday = R"(case "$*" in
  --help) printf '  -dbglog filename\n    Bochs x86 Emulator 1.2\n'; exit ;;
  --version) echo 'QEMU emulator version 1.2.3'; exit ;;
  '-cpu help') echo 'Recognized CPUID flags: vmx-apicv-x2apic'; exit ;;
esac
)";

TEST_P(FakeEmulator, that_stays_away_is_named_with_its_version_and_what_was_tried) {
    const std::string today = miss_with(std::string(of_today) + "echo '[a cause' >&2; exit 1");
    EXPECT_NE(today.find("ended before its hello; exit status 1; its log: [a cause; tried "),
              std::string::npos)
        << today;
    const std::string tried = today.substr(today.find("tried "));
    if (is_bochs()) {
        const std::string model =
            std::string_view(GetParam()) == "bochs-intel" ? "corei7_skylake_x" : "ryzen";
        EXPECT_EQ(tried, "tried bochs 30.5 with CPU model " + model + ", -debugger");
    } else {
        EXPECT_EQ(tried, "tried qemu 30.5.1 with -cpu max,-x2apic");
    }
}

TEST_P(FakeEmulator, gets_only_options_that_it_offers) {
    const std::string report = (directory / "report").string();
    const std::string say = "echo \"$@\" > '" + report + "'; exit 1";
    const std::string option = is_bochs() ? "-debugger " : "-cpu max,-x2apic ";
    const auto arguments = [&](const char* answers) {
        (void)miss_with(answers + say);
        std::string line;
        std::ifstream file(report);
        std::getline(file, line);
        return line;
    };
    EXPECT_EQ(
        arguments(of_today).find(option),
        is_bochs()
            ? 0u
            : std::string("-accel tcg,thread=single -icount shift=0,sleep=off -rtc base=2000-01-01,clock=vm ")
                  .size());
    directory /= "other"; // a program of another path: the first has been asked
    fs::create_directory(directory);
    const std::string yesterday = arguments(of_yesterday);
    EXPECT_FALSE(yesterday.empty());
    EXPECT_EQ(yesterday.find(option), std::string::npos) << yesterday;
    directory = directory.parent_path();
}

TEST_P(FakeEmulator, without_the_cpu_model_is_not_usable) {
    if (!is_bochs()) {
        GTEST_SKIP() << "QEMU's models do not vary";
    }
    const fs::path program = directory / "emulator";
    {
        std::ofstream(program)
            << "#!/bin/sh\n[ \"$*\" = '--help cpu' ] && echo 'Supported CPU models: pentium "
               "ryzen_2' || echo Bochs x86 Emulator 30.5\n";
    }
    fs::permissions(program, fs::perms::owner_all);
    setenv("REFHV_BOCHS", program.c_str(), 1);
    const std::string model = std::string_view(GetParam()) == "bochs-intel" ? "corei7_skylake_x" : "ryzen";
    try {
        (void)open_target(GetParam());
        FAIL() << "usable";
    } catch (const TargetUnusable& unusable) {
        EXPECT_EQ(unusable.what(), std::string(GetParam()) + ": this bochs 30.5 has no CPU model " + model);
    }
}

} // namespace
} // namespace refhv::client
