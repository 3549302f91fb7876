// SPDX-License-Identifier: MIT
#include "refhv/client/children.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <pthread.h>
#include <sys/wait.h>

namespace refhv::client {
namespace {

// More than any front end has at a time. One that finds no room is still ended by the kernel
// (PR_SET_PDEATHSIG).
std::array<std::atomic<pid_t>, 64> children;
static_assert(std::atomic<pid_t>::is_always_lock_free);

void replace(pid_t old, pid_t fresh) {
    static_cast<void>(std::any_of(children.begin(), children.end(), [&](std::atomic<pid_t>& slot) {
        pid_t expected = old;
        return slot.compare_exchange_strong(expected, fresh);
    }));
}

} // namespace

SignalsHeld::SignalsHeld() {
    sigset_t held;
    sigemptyset(&held);
    for (const int number : ending_signals) {
        sigaddset(&held, number);
    }
    pthread_sigmask(SIG_BLOCK, &held, &before_);
}

SignalsHeld::~SignalsHeld() {
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void note_child(pid_t pid) {
    replace(0, pid);
}

void forget_child(pid_t pid) {
    replace(pid, 0);
}

void end_children() noexcept {
    for (auto& slot : children) {
        if (const pid_t pid = slot.exchange(0); pid != 0) {
            ::kill(-pid, SIGKILL);
            if (::kill(pid, SIGKILL) != 0) { // it has become another user's
                continue;
            }
            while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
            }
        }
    }
}

} // namespace refhv::client
