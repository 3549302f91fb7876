// SPDX-License-Identifier: MIT
// Child processes (refhv/client/process.hpp).
#include "refhv/client/descriptor.hpp"
#include "refhv/client/memory_file.hpp"
#include "refhv/client/process.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <thread>

namespace refhv::client {
namespace {

using namespace std::chrono_literals;

// Runs a shell command to its end; its standard output.
std::string output_of(const std::string& command, bool own_network = false) {
    const MemoryFile out{"output"};
    Process process = Process::spawn({.argv = {"/bin/sh", "-c", command},
                                      .descriptors = {-1, out.get(), out.get()},
                                      .own_network = own_network});
    EXPECT_TRUE(process.wait(10s));
    return out.tail(4096);
}

bool exists(pid_t pid) {
    return kill(pid, 0) == 0;
}

TEST(Process, status_comes_back_in_words) {
    Process process = Process::spawn({.argv = {"/bin/sh", "-c", "exit 3"}, .descriptors = {}});
    const auto status = process.wait(10s);
    ASSERT_TRUE(status);
    EXPECT_EQ(describe_wait_status(*status), "exit status 3");
    EXPECT_EQ(process.wait(0ms), status); // again, at once
    Process killed = Process::spawn({.argv = {"/bin/sh", "-c", "kill -SEGV $$"}, .descriptors = {}});
    ASSERT_TRUE(killed.wait(10s));
    EXPECT_EQ(describe_wait_status(*killed.wait(0ms)), "killed by signal 11 (Segmentation fault)");
}

TEST(Process, waiting_is_bounded_and_kill_reaps) {
    Process process = Process::spawn({.argv = {"/bin/sleep", "100"}, .descriptors = {}});
    const pid_t pid = process.pid();
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_FALSE(process.wait(30ms));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 30ms);
    EXPECT_TRUE(exists(pid));
    EXPECT_EQ(describe_wait_status(process.kill()), "killed by signal 9 (Killed)");
    EXPECT_FALSE(exists(pid)); // not even as a zombie
    EXPECT_EQ(process.pid(), 0);
    EXPECT_EQ(process.kill(), -1);
}

TEST(Process, destruction_kills) {
    pid_t pid = 0;
    {
        const Process process = Process::spawn({.argv = {"/bin/sleep", "100"}, .descriptors = {}});
        pid = process.pid();
        EXPECT_TRUE(exists(pid));
    }
    EXPECT_FALSE(exists(pid));
}

TEST(Process, a_program_that_cannot_be_executed_is_told_at_once) {
    try {
        (void)Process::spawn({.argv = {"/nonexistent/program"}, .descriptors = {}});
        FAIL();
    } catch (const SpawnFailed& failure) {
        EXPECT_STREQ(failure.what(), "/nonexistent/program cannot be executed: No such file or directory");
    }
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1); // and leaves no zombie
}

TEST(Process, has_exactly_the_descriptors_it_is_given) {
    const Descriptor leak{dup(2)}; // without close-on-exec, as a caller's own may be
    const MemoryFile three{"three", "from three"};
    const MemoryFile out{"output"};
    Process process =
        Process::spawn({.argv = {"/bin/sh", "-c", "cat /proc/self/fd/3; ls /proc/$$/fd | tr '\\n' ' '; cat"},
                        .descriptors = {-1, out.get(), -1, three.get()}});
    ASSERT_TRUE(process.wait(10s));
    EXPECT_EQ(out.tail(4096), "from three0 1 2 3 ");
}

TEST(Process, descriptors_may_be_given_in_any_order) {
    // Numbers that stand in each other's place.
    const MemoryFile a{"a", "A"};
    const MemoryFile b{"b", "B"};
    const Descriptor low_a{fcntl(a.get(), F_DUPFD_CLOEXEC, 3)};
    const Descriptor low_b{fcntl(b.get(), F_DUPFD_CLOEXEC, 3)};
    const MemoryFile out{"output"};
    std::vector<int> given{-1, out.get(), 2};
    given.resize(static_cast<std::size_t>(std::max(low_a.get(), low_b.get())) + 1, -1);
    given[static_cast<std::size_t>(low_a.get())] = low_b.get();
    given[static_cast<std::size_t>(low_b.get())] = low_a.get();
    const std::string command =
        "cat /proc/self/fd/" + std::to_string(low_a.get()) + " /proc/self/fd/" + std::to_string(low_b.get());
    Process process = Process::spawn({.argv = {"/bin/sh", "-c", command}, .descriptors = given});
    ASSERT_TRUE(process.wait(10s));
    EXPECT_EQ(out.tail(16), "BA");
}

TEST(Process, fork_gives_the_body_its_descriptors_and_returns_its_status) {
    const MemoryFile file{"file"};
    const std::array given{file.get()};
    Process process = Process::fork(given, [] { return write(3, "here", 4) == 4 ? 7 : 8; });
    const auto status = process.wait(10s);
    ASSERT_TRUE(status);
    EXPECT_EQ(describe_wait_status(*status), "exit status 7");
    EXPECT_EQ(file.tail(16), "here");
}

TEST(Process, an_exception_in_a_forked_body_ends_the_child_only) {
    Process process = Process::fork({}, []() -> int {
        close(2); // what terminate() says is not of interest
        throw std::runtime_error("x");
    });
    const auto status = process.wait(10s);
    ASSERT_TRUE(status);
    EXPECT_EQ(describe_wait_status(*status), "killed by signal 6 (Aborted)");
}

// A parent that dies takes its child along, the one in its own network namespace too.
class Orphan : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(OwnNetwork, Orphan, testing::Bool());

TEST_P(Orphan, dies_with_its_parent) {
    if (GetParam() && !Process::own_network_refused().empty()) {
        GTEST_SKIP() << Process::own_network_refused();
    }
    const MemoryFile file{"pid"};
    const std::array given{file.get()};
    Process parent = Process::fork(given, []() -> int {
        const Process child =
            Process::spawn({.argv = {"/bin/sleep", "100"}, .descriptors = {}, .own_network = GetParam()});
        const pid_t pid = child.pid();
        (void)!write(3, &pid, sizeof pid);
        kill(getpid(), SIGKILL);
        return 0;
    });
    ASSERT_TRUE(parent.wait(10s));
    pid_t pid = 0;
    ASSERT_EQ(pread(file.get(), &pid, sizeof pid, 0), static_cast<ssize_t>(sizeof pid));
    // It is init's to reap now; a zombie is dead enough.
    const std::string proc = "/proc/" + std::to_string(pid) + "/exe";
    std::error_code error;
    for (int i = 0; i < 1000 && !std::filesystem::read_symlink(proc, error).empty(); ++i) {
        std::this_thread::sleep_for(1ms);
    }
    EXPECT_TRUE(std::filesystem::read_symlink(proc, error).empty());
}

TEST(Process, own_network_has_no_way_out) {
    if (!Process::own_network_refused().empty()) {
        GTEST_SKIP() << Process::own_network_refused();
    }
    EXPECT_NE(output_of("readlink /proc/self/ns/net", true), output_of("readlink /proc/self/ns/net"));
    EXPECT_EQ(output_of("tail -n +2 /proc/net/route", true), ""); // behind the heading: no route
}

TEST(MemoryFile, tail_and_last_line) {
    const MemoryFile file{"log", "first\n[CPU0] panic\n\n====\n  \n"};
    EXPECT_EQ(file.tail(3), "  \n");
    EXPECT_EQ(file.last_line(""), "====");
    EXPECT_EQ(file.last_line("["), "[CPU0] panic");
    EXPECT_EQ(file.last_line("nothing"), "");
    EXPECT_EQ(MemoryFile{"empty"}.last_line(""), "");
    EXPECT_EQ((MemoryFile{"long", std::string(5000, 'x')}.last_line("").size()), 200u);
}

} // namespace
} // namespace refhv::client
