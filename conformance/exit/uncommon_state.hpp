// SPDX-License-Identifier: MIT
// States of 64-bit mode as legal as they are uncommon (SDM 3C 27.3.1; SVM checks less): segments, descriptor
// tables and MSRs, all of them told apart.
#pragma once

#include "refhv/client/guest/layout.hpp"

#include <random>

namespace refhv::front {

class UncommonState {
  public:
    explicit UncommonState(u32 seed) : random_(seed) {}
    // The stack, the code and where the descriptor tables and the TSS stand are left alone.
    void set(abi::GuestState& s);

  private:
    [[nodiscard]] u32 pick(u32 below) { return static_cast<u32>(random_() % below); }
    [[nodiscard]] u64 address(); // canonical
    void set_limit(abi::Segment& s);

    std::mt19937 random_;
};

} // namespace refhv::front
