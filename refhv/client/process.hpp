// SPDX-License-Identifier: MIT
// A child process of our own: started with exactly the descriptors that it is given, ended by its own id,
// reaped, and killed by the kernel should we die first.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/types.h>
#include <vector>

namespace refhv::client {

// The child could not be made or could not become the program. One line: the step, the program, the system's
// reason.
struct SpawnFailed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Process {
  public:
    struct Command {
        std::vector<std::string> argv; // argv[0] is the program's path
        // The child's descriptors 0, 1, 2, …, no others; -1 stands for /dev/null. Its 0, 1 and 2 always
        // exist.
        std::vector<int> descriptors;
        bool own_network = false; // an empty network namespace of its own; no start where that is refused
    };

    // Both throw SpawnFailed. The child is in a process group of its own, so that a terminal's Ctrl-C reaches
    // us only.
    [[nodiscard]] static Process spawn(const Command& command);
    // A copy of this process that calls `body` and ends with what it returns. Of our descriptors it has 0, 1
    // and 2, and `descriptors` as its 3, 4, ….
    [[nodiscard]] static Process fork(std::span<const int> descriptors, const std::function<int()>& body);

    // Empty if a child can be put into an empty network namespace, else why not. Starts no program.
    [[nodiscard]] static std::string own_network_refused();

    Process() = default;
    Process(Process&& other) noexcept;
    Process& operator=(Process&& other) noexcept;
    ~Process() { kill(); }

    [[nodiscard]] pid_t pid() const { return pid_; } // 0: none
    // The wait status once the child has ended, waiting no longer than `patience`. Reaps.
    std::optional<int> wait(std::chrono::milliseconds patience);
    // SIGKILL if it still runs, for it and what it has started in its process group, then reaps. Returns the
    // wait status; -1 if there was no child, or one that runs as another user and did not end within a
    // second.
    int kill();

  private:
    explicit Process(pid_t pid) : pid_(pid) {}
    // Calls waitpid with these options once; has the child been reaped by it?
    bool reap(int options);

    pid_t pid_ = 0;
    std::optional<int> status_;
};

// "exit status 3", "killed by signal 11 (Segmentation fault)".
[[nodiscard]] std::string describe_wait_status(int status);

} // namespace refhv::client
