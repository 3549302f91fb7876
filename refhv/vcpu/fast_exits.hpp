// SPDX-License-Identifier: MIT
// The exits that a world switch may answer by itself in a run, and their share of the run's limit. `Codes`:
// how many raw exit reasons the vendor's table of budgets has.
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv {

template <usize Codes>
class FastExits {
  public:
    void clear() { count_ = 0; }
    void add(u32 raw, abi::Reason reason) { exits_[count_++] = {static_cast<u8>(raw), reason}; }

    // Before a world switch: at most `most` exits may be answered in it, whichever they are.
    void share_out(i64* budget, u64 most) {
        share_ = static_cast<i64>(count_ == 0 ? 0 : most / count_);
        for (u32 i = 0; i < count_; ++i) {
            budget[exits_[i].raw] = share_;
        }
    }
    // After it: adds what was answered. The exit `raw` that came back took one from its budget too; without a
    // policy that went below 0.
    void collect(i64* budget, u64 raw, u64* counts, u64& handled) const {
        if (raw < Codes && budget[raw] < 0) {
            budget[raw] = 0;
        }
        for (u32 i = 0; i < count_; ++i) {
            const u64 answered = static_cast<u64>(share_ - budget[exits_[i].raw]);
            counts[static_cast<usize>(exits_[i].reason)] += answered;
            handled += answered;
        }
    }

  private:
    struct Exit {
        u8 raw;
        abi::Reason reason;
    };
    static_assert(Codes <= 256);
    Exit exits_[Codes]{};
    u32 count_ = 0;
    i64 share_ = 0;
};

} // namespace refhv
