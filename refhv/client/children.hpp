// SPDX-License-Identifier: MIT
// The children of this process that have not been reaped, so that a signal handler can end them.
#pragma once

#include <csignal>
#include <sys/types.h>

namespace refhv::client {

// What a user, a terminal or a service manager ends a program with.
inline constexpr int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};

// Holds them back, in this thread, for as long as it lives.
class SignalsHeld {
  public:
    SignalsHeld();
    ~SignalsHeld();
    SignalsHeld(const SignalsHeld&) = delete;
    SignalsHeld& operator=(const SignalsHeld&) = delete;

  private:
    sigset_t before_;
};

// Both with signals held, together with the fork or the wait that they tell of: an id that has been reaped
// may belong to another process.
void note_child(pid_t pid);
void forget_child(pid_t pid);

// SIGKILL for every one of them and its process group, by its own id, and reaps it. Async-signal-safe
// (signal-safety(7)).
void end_children() noexcept;

} // namespace refhv::client
