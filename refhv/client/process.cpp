// SPDX-License-Identifier: MIT
#include "refhv/client/process.hpp"

#include "refhv/client/children.hpp"
#include "refhv/client/descriptor.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace refhv::client {
namespace {

// What a child that did not get as far as its program tells the parent.
struct Failure {
    enum Step : int {
        none,
        network,
        orphaned,
        descriptors,
        execute
    } step;
    int error;
};

const char* name_of(Failure::Step step) {
    static constexpr std::array names{"", "cannot have an empty network namespace", "lost its parent",
                                      "cannot arrange its descriptors", "cannot be executed"};
    return names[step];
}

// An unprivileged process gets a network namespace only together with a user namespace.
int enter_own_network() {
    if (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) {
        return 0;
    }
    return errno;
}

// Between fork and exec: calls nothing that allocates. `spare` has room for wanted.size() descriptors.
Failure arrange(std::span<const int> wanted, std::span<int> spare, int& report) {
    const int count = static_cast<int>(wanted.size());
    // First out of the way of the final numbers, then onto them.
    report = fcntl(report, F_DUPFD_CLOEXEC, count + 1);
    for (int i = 0; i < count; ++i) {
        spare[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, count + 1);
        if (spare[i] < 0) {
            return {Failure::descriptors, errno};
        }
    }
    for (int i = 0; i < count; ++i) {
        if (dup2(spare[i], i) < 0) {
            return {Failure::descriptors, errno};
        }
    }
    if (dup3(report, count, O_CLOEXEC) < 0) {
        return {Failure::descriptors, errno};
    }
    report = count;
    closefrom(count + 1);
    return {Failure::none, 0};
}

Failure become_child(pid_t parent, bool own_network, std::span<const int> wanted, std::span<int> spare,
                     int& report) {
    setpgid(0, 0);
    std::signal(SIGPIPE, SIG_DFL);
    std::signal(SIGXFSZ, SIG_DFL);
    // The parent's handlers would end the parent's other children. execve would take them away, but a child
    // of Process::fork executes nothing.
    for (const int number : ending_signals) {
        struct sigaction action {};
        sigaction(number, nullptr, &action);
        if (action.sa_handler != SIG_IGN) {
            std::signal(number, SIG_DFL);
        }
    }
    sigset_t nothing;
    sigemptyset(&nothing);
    sigprocmask(SIG_SETMASK, &nothing, nullptr);
    if (own_network) {
        if (const int error = enter_own_network(); error != 0) {
            return {Failure::network, error};
        }
    }
    // Behind unshare, which clears it with the change of credentials (capabilities(7),
    // PR_SET_PDEATHSIG(2const)).
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        return {Failure::orphaned, ESRCH};
    }
    return arrange(wanted, spare, report);
}

// Forks, brings the child to its descriptors and calls `body` there, which returns only upon failure to
// execute. Returns once the child has executed or failed, or has closed the report descriptor it is given.
template <class Body>
pid_t make_child(const std::string& what, std::span<const int> descriptors, bool own_network, Body body) {
    const Descriptor null{open("/dev/null", O_RDWR | O_CLOEXEC)};
    std::vector<int> wanted(descriptors.begin(), descriptors.end());
    wanted.resize(std::max<std::size_t>(wanted.size(), 3), -1);
    for (int& fd : wanted) {
        fd = fd < 0 ? null.get() : fd;
    }
    std::vector<int> spare(wanted.size());
    std::array<int, 2> ends{};
    if (!null || pipe2(ends.data(), O_CLOEXEC) != 0) {
        throw SpawnFailed(what + " cannot be started: " + std::strerror(errno));
    }
    const Descriptor read_end{ends[0]};
    Descriptor write_end{ends[1]};
    const pid_t parent = getpid();
    const SignalsHeld held; // until the child is known, and in the child until it has no handlers of ours
    const pid_t pid = ::fork();
    if (pid < 0) {
        throw SpawnFailed(what + " cannot be started: " + std::strerror(errno));
    }
    if (pid == 0) {
        int report = write_end.get();
        Failure failure = become_child(parent, own_network, wanted, spare, report);
        if (failure.step == Failure::none) {
            failure = body(report);
        }
        [[maybe_unused]] const auto written = write(report, &failure, sizeof failure);
        _exit(127);
    }
    note_child(pid);
    write_end = Descriptor{};
    Failure failure{};
    ssize_t got = 0;
    do {
        got = read(read_end.get(), &failure, sizeof failure);
    } while (got < 0 && errno == EINTR);
    if (got != sizeof failure) {
        return pid;
    }
    waitpid(pid, nullptr, 0);
    forget_child(pid);
    throw SpawnFailed(what + " " + name_of(failure.step) + ": " + std::strerror(failure.error));
}

} // namespace

Process Process::spawn(const Command& command) {
    std::vector<char*> argv;
    argv.reserve(command.argv.size() + 1);
    for (const std::string& argument : command.argv) {
        argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    return Process{make_child(command.argv.at(0), command.descriptors, command.own_network, [&argv](int) {
        execv(argv[0], argv.data());
        return Failure{Failure::execute, errno};
    })};
}

Process Process::fork(std::span<const int> descriptors, const std::function<int()>& body) {
    std::vector<int> kept{0, 1, 2};
    for (int& fd : kept) {
        fd = fcntl(fd, F_GETFD) < 0 ? -1 : fd;
    }
    kept.insert(kept.end(), descriptors.begin(), descriptors.end());
    return Process{make_child("a child process", kept, false, [&body](int report) -> Failure {
        close(report);
        // An exception that leaves `body` ends the child here, with SIGABRT, and not in the parent's
        // handlers.
        [&body]() noexcept { _exit(body()); }();
        return {};
    })};
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), status_(std::exchange(other.status_, std::nullopt)) {}

Process& Process::operator=(Process&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(status_, other.status_);
    return *this;
}

bool Process::reap(int options) {
    const SignalsHeld held;
    int status = 0;
    const pid_t got = waitpid(pid_, &status, options);
    if (got != pid_ && (got >= 0 || errno != ECHILD)) { // ECHILD: SIGCHLD is ignored, the status is lost
        return false;
    }
    forget_child(pid_);
    status_ = status;
    return true;
}

std::optional<int> Process::wait(std::chrono::milliseconds patience) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (pid_ != 0 && !status_) {
        if (reap(WNOHANG) || std::chrono::steady_clock::now() >= end) {
            break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return status_;
}

int Process::kill() {
    if (pid_ == 0) {
        return -1;
    }
    if (!status_) {
        // Not reaped yet, so the id is still that of our child and of the group that it leads.
        ::kill(-pid_, SIGKILL);
        if (::kill(pid_, SIGKILL) != 0 &&
            errno == EPERM) { // it runs as another user: sudo, a set-user-ID program
            if (!wait(std::chrono::seconds{1})) {
                const SignalsHeld held;
                forget_child(std::exchange(pid_, 0));
                return -1;
            }
        }
        while (!status_ && !reap(0)) {
        }
    }
    pid_ = 0;
    return std::exchange(status_, std::nullopt).value_or(-1);
}

std::string describe_wait_status(int status) {
    if (WIFSIGNALED(status)) {
        const int signal = WTERMSIG(status);
        return "killed by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
    }
    return "exit status " + std::to_string(WEXITSTATUS(status));
}

std::string Process::own_network_refused() {
    try {
        Process{make_child("a child process", {}, true, [](int) -> Failure { _exit(0); })}.kill();
    } catch (const SpawnFailed& failure) {
        return failure.what();
    }
    return {};
}

} // namespace refhv::client
