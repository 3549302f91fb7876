// SPDX-License-Identifier: MIT
// How a tool ends on signals (refhv/front/signals.hpp), and with which code on what (guarded).
#include "refhv/client/memory_file.hpp"
#include "refhv/client/process.hpp"
#include "refhv/front/events.hpp"
#include "refhv/front/options.hpp"
#include "refhv/front/signals.hpp"

#include <csignal>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace refhv::front {
namespace {

using namespace std::chrono_literals;
using client::MemoryFile;
using client::Process;

// A tool in a process of its own that has two children, and then `body`. It is forked by hand: Process would
// take the handlers away. Answers its wait status, and the ids of its children.
struct Tool {
    int status = 0;
    pid_t children[2] = {};
    std::string said;
};

Tool run_tool(const std::function<int()>& body) {
    int ids[2];
    EXPECT_EQ(pipe(ids), 0);
    const MemoryFile errors{"errors"};
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(errors.get(), STDERR_FILENO);
        _exit(guarded("tool", [&] {
            const Process sleeper = Process::spawn({.argv = {"/bin/sleep", "100"}, .descriptors = {}});
            const Process copy = Process::fork({}, []() -> int {
                for (;;) {
                    pause();
                }
            });
            const pid_t children[] = {sleeper.pid(), copy.pid()};
            if (write(ids[1], children, sizeof children) != sizeof children) {
                return 99;
            }
            return body();
        }));
    }
    close(ids[1]);
    Tool tool;
    EXPECT_EQ(read(ids[0], tool.children, sizeof tool.children), static_cast<ssize_t>(sizeof tool.children));
    EXPECT_EQ(waitpid(pid, &tool.status, 0), pid);
    close(ids[0]);
    tool.said = errors.tail(4096);
    return tool;
}

bool exists(pid_t pid) {
    return kill(pid, 0) == 0;
}

class Signals : public ::testing::TestWithParam<int> {};

TEST_P(Signals, end_a_tool_and_its_children) {
    const Tool tool = run_tool([] {
        say_on_signal("three rows are kept in x.json");
        raise(GetParam());
        return 0;
    });
    ASSERT_TRUE(WIFEXITED(tool.status));
    EXPECT_EQ(WEXITSTATUS(tool.status), 128 + GetParam());
    EXPECT_TRUE(tool.said.starts_with("tool: ended by SIG") &&
                tool.said.ends_with("; three rows are kept in x.json\n"))
        << tool.said;
    for (const pid_t child : tool.children) {
        EXPECT_FALSE(exists(child)) << "reaped by the tool itself, before it ended";
    }
}

INSTANTIATE_TEST_SUITE_P(All, Signals, ::testing::Values(SIGINT, SIGTERM, SIGHUP));

TEST(Signals, what_was_ignored_stays_ignored) {
    std::signal(SIGHUP, SIG_IGN);
    const Tool tool = run_tool([] {
        raise(SIGHUP);
        return 5;
    });
    std::signal(SIGHUP, SIG_DFL);
    ASSERT_TRUE(WIFEXITED(tool.status));
    EXPECT_EQ(WEXITSTATUS(tool.status), 5);
}

// A copy of the tool has none of its handlers: it would end the tool's other children.
TEST(Signals, of_a_child_are_its_own) {
    const Tool tool = run_tool([] {
        Process sibling = Process::spawn({.argv = {"/bin/sleep", "100"}, .descriptors = {}});
        Process copy = Process::fork({}, []() -> int { return raise(SIGTERM); });
        const auto status = copy.wait(10s);
        return status && WIFSIGNALED(*status) && WTERMSIG(*status) == SIGTERM && !sibling.wait(50ms) ? 7 : 8;
    });
    ASSERT_TRUE(WIFEXITED(tool.status));
    EXPECT_EQ(WEXITSTATUS(tool.status), 7) << tool.said;
}

TEST(Guarded, codes_are_the_readme_s) {
    const auto code = [](const auto& body) {
        const int status = run_tool(body).status;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    };
    EXPECT_EQ(code([]() -> int { throw UsageError("x"); }), exit_usage);
    EXPECT_EQ(code([]() -> int { throw client::TargetMiss("x"); }), exit_miss);
    EXPECT_EQ(code([]() -> int { throw std::logic_error("x"); }), exit_failed);
    EXPECT_EQ(code([]() -> int {
                  Events::get().open(77); // not open
                  return 0;
              }),
              exit_usage);
}

} // namespace
} // namespace refhv::front
