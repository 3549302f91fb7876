// SPDX-License-Identifier: MIT
// The table of targets and where their programs are looked for.
#include "refhv/client/locate.hpp"
#include "refhv/client/target.hpp"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <optional>
#include <sys/wait.h>

namespace refhv::client {
namespace {

// Sets an environment variable for the time of a test.
class Environment {
  public:
    Environment(const char* name, const char* value) : name_(name) {
        if (const char* before = std::getenv(name)) {
            before_ = before;
        }
        setenv(name, value, 1);
    }
    ~Environment() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

  private:
    const char* name_;
    std::optional<std::string> before_;
};

std::string unusable(std::string_view name) {
    for (const TargetEntry& entry : list_targets()) {
        if (entry.info.name == name) {
            return entry.unusable;
        }
    }
    return "not listed";
}

TEST(Targets, are_listed_with_what_they_are) {
    const std::vector<TargetEntry> entries = list_targets();
    ASSERT_EQ(entries.size(), 13u);
    const auto expect = [&](usize i, const char* name, const char* kind, const char* backend, bool emulated) {
        EXPECT_EQ(entries[i].info.name, name);
        EXPECT_EQ(entries[i].info.kind, kind);
        EXPECT_EQ(entries[i].info.backend, backend);
        EXPECT_EQ(entries[i].info.emulated, emulated);
        EXPECT_EQ(entries[i].info.unit, emulated ? "ticks" : "cycles");
        EXPECT_FALSE(entries[i].info.description.empty());
    };
    expect(0, "self", "process", "none", false);
    expect(1, "bochs-intel", "image", "vmx", true);
    expect(2, "bochs-amd", "image", "svm", true);
    expect(3, "bochs-intel-smp", "image", "vmx", true);
    expect(4, "bochs-amd-smp", "image", "svm", true);
    expect(5, "qemu-amd", "image", "svm", true);
    expect(6, "qemu-amd-smp", "image", "svm", true);
    expect(7, "qemu-amd-clock", "image", "svm", true);
    expect(8, "bochs-intel-tigerlake", "image", "vmx", true);
    expect(9, "bochs-intel-sapphirerapids", "image", "vmx", true);
    expect(10, "bochs-intel-arrowlake", "image", "vmx", true);
    EXPECT_EQ(entries[11].info.name, "linux"); // what it is depends on the machine
    EXPECT_EQ(entries[11].info.kind, "module");
    EXPECT_EQ(entries[12].info.name, "kvm"); // likewise
    EXPECT_EQ(entries[12].info.kind, "kvm");
    for (usize i = 0; i < entries.size(); ++i) {
        EXPECT_EQ(entries[i].info.counts_instructions, i != 0 && i != 7 && i < 11) << entries[i].info.name;
    }
    EXPECT_EQ(entries[0].unusable, "");
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1); // no child is left from looking
}

TEST(Targets, an_unknown_name_is_refused_with_the_known_ones) {
    try {
        (void)open_target("bochs-arm");
        FAIL();
    } catch (const TargetUnusable& unusable) {
        EXPECT_STREQ(unusable.what(),
                     "no target is named 'bochs-arm'; there are: self, bochs-intel, bochs-amd, "
                     "bochs-intel-smp, bochs-amd-smp, qemu-amd, qemu-amd-smp, qemu-amd-clock, "
                     "bochs-intel-tigerlake, bochs-intel-sapphirerapids, bochs-intel-arrowlake, linux, kvm, "
                     "serial:DEV|HOST:PORT|unix:PATH[,BAUD][,time=...][,hello=S], "
                     "unix:PATH[,time=...][,hello=S], "
                     "qemu:accel=...,cpu=...,machine=...,smp=...,memory=...,icount=on,binary=..., "
                     "bochs:model=...,cpus=...,binary=...,bios=...,vgabios=..., "
                     "cmd:[time=...] [hello=S] PROGRAM ARGUMENT...|@FILE");
    }
}

TEST(Targets, a_program_that_is_missing_is_named_with_its_package) {
    const Environment path("PATH", "/nonexistent::relative");
    EXPECT_EQ(unusable("bochs-intel"), "bochs-bin is not in PATH: install the Debian package bochs");
    EXPECT_EQ(unusable("qemu-amd"),
              "qemu-system-x86_64 is not in PATH: install the Debian package qemu-system-x86");
    EXPECT_EQ(unusable("self"), "");
    try {
        (void)open_target("qemu-amd");
        FAIL();
    } catch (const TargetUnusable& refusal) {
        EXPECT_STREQ(refusal.what(),
                     "qemu-amd: qemu-system-x86_64 is not in PATH: install the Debian package "
                     "qemu-system-x86");
    }
}

TEST(Targets, an_override_that_is_no_program_is_named) {
    const Environment qemu("REFHV_QEMU", "/etc/passwd");
    EXPECT_EQ(unusable("qemu-amd"), "REFHV_QEMU is '/etc/passwd', which is no executable file");
    const Environment directory("REFHV_BOCHS", "/usr");
    EXPECT_EQ(unusable("bochs-amd"), "REFHV_BOCHS is '/usr', which is no executable file");
}

TEST(Targets, an_image_that_is_missing_is_named_with_what_to_do) {
    const Environment program("REFHV_QEMU", "/bin/sh");
    const Environment images("REFHV_IMAGE_DIR", "/nonexistent");
    EXPECT_EQ(
        unusable("qemu-amd"),
        "the image /nonexistent/refhv.elf cannot be read: build it, or set REFHV_IMAGE_DIR to where it is");
}

TEST(Locate, finds_in_path_order_and_by_override) {
    {
        const Environment path("PATH", "/nonexistent:/bin:/usr/bin");
        EXPECT_EQ(find_program("sh", "REFHV_NO_SUCH", "dash"), "/bin/sh");
    }
    const Environment given("REFHV_TEST_PROGRAM", "/bin/cat");
    EXPECT_EQ(find_program("sh", "REFHV_TEST_PROGRAM", "dash"), "/bin/cat");
    EXPECT_THROW((void)require_file("/nonexistent", "some-package"), TargetUnusable);
    EXPECT_EQ(require_file("/etc/passwd", "base-passwd"), "/etc/passwd");
}

TEST(Locate, images_are_beside_the_executable) {
    const Environment unset("REFHV_IMAGE_DIR", "");
    const auto self = std::filesystem::read_symlink("/proc/self/exe");
    EXPECT_EQ(find_image(self.filename().string()), self.string());
}

} // namespace
} // namespace refhv::client
