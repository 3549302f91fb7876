// SPDX-License-Identifier: MIT
// Does a null selector in ES tell that an interrupt came, on this machine and kernel? Every sample of the
// `self` target rests on it (Sample::disturbed). SDM 2A "IRET", the last part of the pseudocode for a return
// to an outer privilege level: a segment register that holds a null selector is loaded with 0. SegScope, HPCA
// 2024.
#include "conformance/test/unit/self_machine.hpp"

#include <fstream>
#include <gtest/gtest.h>
#include <regex>

namespace refhv::client {
namespace {

// ES := 1; wait until rdi TSC ticks have passed; rbx := ES.
GUEST(wait_with_es_1, "mov $1, %eax\n mov %eax, %es\n"
                      "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n lea (%rax, %rdi), %rsi\n"
                      "1: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n cmp %rsi, %rax\n jb 1b\n"
                      "xor %ebx, %ebx\n mov %es, %ebx")

// rcx times: ES := 1, an empty stamp pair, rbx += ES.
GUEST(short_windows, "xor %ebx, %ebx\n"
                     "1: mov $1, %esi\n mov %esi, %es\n lfence\n rdtsc\n lfence\n lfence\n rdtsc\n lfence\n"
                     "mov %es, %esi\n add %rsi, %rbx\n dec %ecx\n jnz 1b")

bool kernel_returns_by_fred() {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        if (line.starts_with("flags")) {
            return std::regex_search(line, std::regex("\\bfred\\b"));
        }
    }
    return false;
}

class SegScope : public testing::Test {
  protected:
    SelfMachine machine;
    u64 hz = machine.target().hello().fixed.tsc_hz;

    void SetUp() override {
        if (kernel_returns_by_fred()) {
            GTEST_SKIP()
                << "this kernel may return by ERETU (FRED), which leaves ES alone: the sign does not exist";
        }
    }
};

TEST_F(SegScope, es_is_cleared_by_an_interrupt) {
    machine.state.gpr[abi::rdi] = hz / 20; // longer than any timer tick's period
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(machine.run(wait_with_es_1).gpr(abi::rbx), 0u);
    }
}

TEST_F(SegScope, es_stays_without_one) {
    constexpr u64 windows = 10'000;
    machine.state.gpr[abi::rcx] = windows;
    const u64 undisturbed = machine.run(short_windows).gpr(abi::rbx);
    EXPECT_LE(undisturbed, windows);
    EXPECT_GE(undisturbed, windows * 99 / 100);
}

} // namespace
} // namespace refhv::client
