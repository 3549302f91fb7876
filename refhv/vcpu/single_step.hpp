// SPDX-License-Identifier: MIT
// One instruction of a guest by itself, by RFLAGS.TF: the guest's own TF meanwhile.
#pragma once

#include "refhv/x86/registers.hpp"

namespace refhv {

class SingleStep {
  public:
    [[nodiscard]] bool is_on() const { return on_; }
    // Is a #DB for our TF the guest's too?
    [[nodiscard]] bool guest_traps() const { return guest_flag_ != 0; }

    // Both: RFLAGS as they are, and as they are to be.
    [[nodiscard]] u64 begin(u64 rflags) {
        on_ = true;
        guest_flag_ = rflags & x86::rflags_bits::tf;
        return rflags | x86::rflags_bits::tf;
    }
    [[nodiscard]] u64 end(u64 rflags) {
        on_ = false;
        return (rflags & ~x86::rflags_bits::tf) | guest_flag_;
    }

  private:
    bool on_ = false;
    u64 guest_flag_ = 0;
};

} // namespace refhv
