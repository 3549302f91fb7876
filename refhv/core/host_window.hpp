// SPDX-License-Identifier: MIT
// The moments at which the host can take an interrupt while the core works on this CPU, and how far apart
// they are.
#pragma once

#include "refhv/core/platform.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv {

// In guest mode a pending interrupt ends the guest at once, whatever the guest's IF (SDM 3C 26.2; APM 2
// 15.13.1), so time in there makes nobody wait. It counts where exits were answered on the exit path: one
// that outranks interrupts, as the preemption timer's does (SDM 3C 26.2), may come at every entry.
class HostWindow {
  public:
    // Gives the CPU back to the host as it was, and takes it again.
    struct Lender {
        void* self = nullptr;
        void (*give)(void* self) = nullptr;
        void (*take)(void* self) = nullptr;
    };

    // Until it is told otherwise, each window is the lender's too.
    void lend_by(const Lender& lender) { lender_ = lender; }

    // From here on interrupts are off.
    void begin() { last_ = x86::rdtsc(); }

    // Lets the host take what is pending, unless it could a moment ago; true: it took something.
    bool open() {
        const bool lent = lender_.self != nullptr;
        return (!lent || x86::rdtsc() - opened_ >= platform::window_interval()) && take();
    }

    // The same without a look at the clock.
    bool take() {
        give_back();
        const bool taken = platform::take_interrupts();
        resume();
        close();
        return taken;
    }

    // Sleeps until the host has taken something.
    void wait() {
        close();
        give_back();
        platform::wait_for_interrupt();
        resume();
        begin();
    }

    // The guest has run. `chained`: exits were answered on the way.
    void left_guest(bool chained) {
        if (!chained) {
            begin();
        }
    }

    // A stretch ends, and the next begins.
    void close() {
        const u64 now = x86::rdtsc();
        longest_ = now - last_ > longest_ ? now - last_ : longest_;
        last_ = now;
    }

    // TSC at the last window, or at the exit if the guest has run since.
    [[nodiscard]] u64 last() const { return last_; }
    [[nodiscard]] u64 longest() const { return longest_; } // TSC ticks

    // The platform is asked no oftener than this, for asking may be slow.
    [[nodiscard]] bool hears_stop() {
        constexpr u64 patience = u64{1} << 22; // TSC ticks: a second or a few of an emulator
        if (asked_ == 0) {
            asked_ = last_;
        }
        if (last_ - asked_ >= patience && !stop_) {
            asked_ = last_;
            stop_ = platform::stop_asked();
        }
        return stop_;
    }

  private:
    void give_back() {
        if (lender_.self != nullptr) {
            lender_.give(lender_.self);
        }
    }
    void resume() {
        if (lender_.self != nullptr) {
            lender_.take(lender_.self);
            opened_ = x86::rdtsc();
        }
    }

    Lender lender_{};
    u64 opened_ = 0; // TSC, where there is a lender
    u64 last_ = 0, longest_ = 0;
    u64 asked_ = 0; // TSC
    bool stop_ = false;
};

} // namespace refhv
