// SPDX-License-Identifier: MIT
// Events that wait until the guest can take them: external interrupts and NMIs that were taken on its behalf,
// and the one that a policy delivers by Delivery::when_open.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/vcpu/event.hpp"

namespace refhv {

class PendingEvents {
  public:
    // Takes over what the platform has gathered; whether there was anything. One bit a vector, as in an IRR:
    // what comes twice before it was delivered is delivered once.
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
    // The policy's: comes with the exit by its window and never before, so that it takes this exit however
    // open the guest is. Of two only the last waits. false: the CPU makes no such exit.
    template <class V>
    [[nodiscard]] bool add(V& vcpu, Event event) {
        if (event.is_nmi() && !vcpu.has_nmi_window()) {
            return false;
        }
        at_window_ = {event.injection()};
        busy_ = true;
        return true;
    }

    // Is there one that was taken on the guest's behalf? It wakes a guest that sleeps.
    [[nodiscard]] bool any() const { return nmi_ || any_interrupt(); }

    // Is the one of add() still to come?
    [[nodiscard]] bool waits() const { return at_window_.bits != 0; }

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
            (void)vcpu.deliver(Event::of(Event::Type::interrupt, vector));
        }
        const bool one_waits = at_window_.bits != 0;
        await(vcpu, any_interrupt() || (one_waits && !at_window_.is_nmi()),
              nmi_ || (one_waits && at_window_.is_nmi()));
        busy_ = any() || one_waits;
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
    // At that exit: has the policy's event been waiting for it? Then it comes with the next entry.
    template <class V>
    [[nodiscard]] bool deliver_at_window(V& vcpu, abi::Reason reason) {
        if (at_window_.bits == 0 || at_window_.is_nmi() != (reason == abi::Reason::nmi_window)) {
            return false;
        }
        (void)vcpu.deliver(at_window_);
        at_window_ = {};
        return true;
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
    Event at_window_{};
    bool busy_ = false; // something may wait, or a window is asked for
    bool nmi_ = false, awaited_ = false, nmi_awaited_ = false;
};

} // namespace refhv
