// SPDX-License-Identifier: MIT
// The CPU's own count of page walks that data accesses of this thread caused, where the kernel gives one.
#pragma once

#include "refhv/contract/types.hpp"

#include <optional>
#include <string>

namespace refhv::front {

class WalkCounter {
  public:
    // AMD since family 17h: raw event PMCx045, unit mask F0H (misses of L1 and L2 DTLB; PPR, "Core
    // Performance Monitor Counters"). Elsewhere the kernel's generic dTLB-load-misses, which on Intel counts
    // walks of loads.
    explicit WalkCounter(bool amd);
    // Any event of perf_event_open(2).
    WalkCounter(u32 type, u64 config, std::string event);
    WalkCounter(const WalkCounter&) = delete;
    WalkCounter& operator=(const WalkCounter&) = delete;
    ~WalkCounter();

    [[nodiscard]] const std::string& event() const { return event_; }
    // Why there is no counter; empty: there is one.
    [[nodiscard]] const std::string& missing() const { return missing_; }
    void start();
    // Since start(). Null: no counter, or it shared the hardware with others and ran only part of the time.
    [[nodiscard]] std::optional<u64> stop();

  private:
    std::string event_;
    std::string missing_;
    int fd_ = -1;
};

} // namespace refhv::front
