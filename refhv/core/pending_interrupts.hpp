// SPDX-License-Identifier: MIT
// External interrupts and NMIs that were taken on the guest's behalf and wait until it can take them.
#pragma once

#include "refhv/core/backend.hpp"

namespace refhv {

// One bit a vector, as in an IRR: what comes twice before it was delivered is delivered once.
class PendingInterrupts {
  public:
    // Takes over what the platform has gathered; whether there was anything.
    bool collect() {
        bool some = false;
        for (u8 vector = platform::take_guest_vector(); vector != 0; vector = platform::take_guest_vector()) {
            words_[vector / 64] |= u64{1} << (vector % 64);
            some = true;
        }
        busy_ = busy_ || some;
        return some;
    }
    void add_nmi() { busy_ = nmi_ = true; }

    [[nodiscard]] bool any() const { return nmi_ || any_interrupt(); }

    // Delivers the NMI or the highest interrupt with the next entry if the guest can take it; as long as more
    // wait, the guest exits once it can.
    template <class V>
    void offer(V& vcpu) {
        if (!busy_) [[likely]] { // as at nearly every exit
            return;
        }
        if (nmi_ && vcpu.takes_nmi()) {
            nmi_ = false;
            (void)vcpu.deliver_nmi();
        } else if (any_interrupt() && vcpu.takes_interrupt(highest())) {
            const u8 vector = highest();
            words_[vector / 64] &= ~(u64{1} << (vector % 64));
            (void)vcpu.deliver(vector); // type 0
        }
        await(vcpu, any_interrupt(), nmi_);
        busy_ = any();
    }
    // What still waits when the run ends is dropped.
    template <class V>
    void end(V& vcpu) {
        await(vcpu, false, false);
    }

    // An exit by one of the windows is this one's doing.
    [[nodiscard]] bool awaits_window(abi::Reason reason) const {
        return (reason == abi::Reason::interrupt_window && awaited_) ||
               (reason == abi::Reason::nmi_window && nmi_awaited_);
    }

  private:
    template <class V>
    void await(V& vcpu, bool interrupt, bool nmi) {
        if (interrupt != awaited_) {
            awaited_ = interrupt;
            vcpu.await_interrupt_window(interrupt);
        }
        if (nmi != nmi_awaited_) {
            nmi_awaited_ = nmi;
            vcpu.await_nmi_window(nmi);
        }
    }

    [[nodiscard]] bool any_interrupt() const { return (words_[0] | words_[1] | words_[2] | words_[3]) != 0; }

    [[nodiscard]] u8 highest() const {
        usize word = 3;
        while (word > 0 && words_[word] == 0) {
            --word;
        }
        return static_cast<u8>(word * 64 + 63 - static_cast<unsigned>(__builtin_clzll(words_[word])));
    }

    u64 words_[4]{};
    bool busy_ = false; // any() may be true, or a window asked for
    bool nmi_ = false, awaited_ = false, nmi_awaited_ = false;
};

} // namespace refhv
