// SPDX-License-Identifier: MIT
// Versions as the emulators' own programs tell them, and asking programs that do not answer as they should.
#include "refhv/client/emulator.hpp"

#include <chrono>
#include <cstdlib>
#include <gtest/gtest.h>
#include <sys/wait.h>

namespace refhv::client {
namespace {

constexpr std::string_view bochs_help = "00000000000i[      ] LTDL_LIBRARY_PATH not set.\n"
                                        "Usage: bochs [flags] [bochsrc options]\n"
                                        "  -debugger        start Bochs internal debugger on startup\n"
                                        "====================\n"
                                        "                  Bochs x86 Emulator 3.0\n"
                                        "       Built from GitHub snapshot on February 16, 2025\n";
constexpr std::string_view qemu_version =
    "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright (c) 2003-2025 Fabrice "
    "Bellard\n";

TEST(Emulator, tells_its_version) {
    const Emulator bochs = emulator_in(bochs_help, "bochs", "Bochs x86 Emulator ");
    EXPECT_EQ(bochs.name, "bochs");
    EXPECT_EQ(bochs.version, "3.0");
    EXPECT_EQ(bochs.banner, "Bochs x86 Emulator 3.0");
    EXPECT_EQ(describe(bochs), "bochs 3.0");
    const Emulator qemu = emulator_in(qemu_version, "qemu", "QEMU emulator version ");
    EXPECT_EQ(qemu.version, "10.0.13");
    EXPECT_EQ(qemu.banner, "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)");
}

TEST(Emulator, a_version_is_numbers_and_points_only) {
    const auto version = [](std::string_view answer) { return emulator_in(answer, "x", "version ").version; };
    EXPECT_EQ(version("version 2.7"), "2.7");
    EXPECT_EQ(version("version 10.1.0-rc2 (v10.1.0-rc2)"), "10.1.0");
    EXPECT_EQ(version("version 3.0.devel"), "3.0");
    EXPECT_EQ(version("version unknown"), "");
}

TEST(Emulator, that_does_not_tell_has_a_name_still) {
    const Emulator silent = emulator_in("no banner", "qemu", "QEMU emulator version ");
    EXPECT_EQ(silent.name, "qemu");
    EXPECT_EQ(silent.version, "");
    EXPECT_EQ(silent.banner, "");
    EXPECT_EQ(describe(silent), "qemu of a version that it does not tell");
}

TEST(Emulator, a_word_stands_alone) {
    EXPECT_TRUE(has_word(bochs_help, "-debugger"));
    EXPECT_FALSE(has_word("-dbglog filename", "-dbg"));
    EXPECT_FALSE(has_word("vmx-apicv-x2apic", "x2apic"));
    EXPECT_TRUE(has_word("vmx-apicv-x2apic wdt x2apic", "x2apic"));
    EXPECT_TRUE(has_word("ryzen", "ryzen"));
    EXPECT_FALSE(has_word("", "ryzen"));
}

TEST(Emulator, is_asked_once) {
    const std::vector<std::string> argv{"/bin/sh", "-c", "echo $$; echo on error >&2"};
    const std::string first = answer_of(argv);
    EXPECT_TRUE(has_word(first, "error"));
    EXPECT_EQ(answer_of(argv), first);
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1); // and reaped
}

TEST(Emulator, that_cannot_be_started_says_nothing) {
    EXPECT_EQ(answer_of({"/nonexistent/emulator", "--version"}), "");
}

TEST(Emulator, that_hangs_is_not_waited_for) {
    setenv("REFHV_PATIENCE", "0.01", 1);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(answer_of({"/bin/sh", "-c", "echo begun; exec sleep 100"}), "begun\n");
    unsetenv("REFHV_PATIENCE");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds{5});
}

TEST(Emulator, that_talks_without_end_is_not_heard_out) {
    const std::string answer = answer_of({"/bin/sh", "-c", "while :; do echo rubbish; done"});
    EXPECT_GE(answer.size(), 65536u);
    EXPECT_LT(answer.size(), 65536u + 4096u);
}

} // namespace
} // namespace refhv::client
