// SPDX-License-Identifier: MIT
// The end of a wait before its time, because whoever waits has been told to (Ctrl-C in an interpreter that
// this library serves). Programs of our own do without: there a signal ends everything.
#pragma once

#include <functional>
#include <stdexcept>

namespace refhv::client {

// A wait was ended by Interruption. The message is one line and says what became of the target.
struct Interrupted : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// While it lives, waits of this thread for a machine ask it every 50 ms, and whenever a signal came. It says
// yes once for each wish.
class Interruption {
  public:
    using Asked = std::function<bool()>;

    explicit Interruption(Asked asked);
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;
    ~Interruption();

    // Is there one for this thread?
    [[nodiscard]] static bool possible();
    // Is this thread to end its wait? Asks.
    [[nodiscard]] static bool asked();

  private:
    Asked asked_;
    Interruption* before_;
};

} // namespace refhv::client
