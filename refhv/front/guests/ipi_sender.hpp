// SPDX-License-Identifier: MIT
// A guest in the second slot that does nothing but send interrupts, as abi::PeerAct::guest: a stamp, then
// WRMSR of the ICR in x2APIC mode.
#pragma once

#include "refhv/front/session.hpp"

namespace refhv::front {

class IpiSender {
  public:
    static constexpr u32 slot = Session::second_slot;
    static constexpr u8 vector = 0x51;

    // The WRMSR exits, and the core sends or posts for it. Ready to run as a peer.
    IpiSender(client::GuestHost& host, u32 apic_id);
    // IPI virtualization, where apic::lacking_ipis says nothing: the CPU posts in the descriptor at this
    // host-physical address, and notifies whom that names. Nothing exits but the CPUID behind it.
    [[nodiscard]] static IpiSender virtualized(client::GuestHost& host, u64 descriptor);
    // AVIC, where avic::missing says nothing: the CPU puts the interrupt into the backing page at this
    // host-physical address and rings the doorbell of the CPU with this APIC ID. CPUID as above.
    [[nodiscard]] static IpiSender by_avic(client::GuestHost& host, u64 backing_page, u32 apic_id);
    // Of a run on CPU 0 in which it sends once, from CPU 1, when this word of the other guest's says so.
    [[nodiscard]] static abi::Peer peer(u64 mark) {
        constexpr u64 waiting = 10'000; // TSC ticks: by then the other guest waits
        return {.act = static_cast<u16>(abi::PeerAct::guest),
                .vector = 0,
                .notification = 0,
                .cpu = 1,
                .count = 1,
                .mark = mark,
                .delay = waiting,
                .address = 0,
                .value = slot};
    }
    // When it sent, on its own TSC; destroys it.
    [[nodiscard]] std::vector<u64> finish(u64 count);

  private:
    IpiSender(client::GuestHost& host, const client::Plan& plan) : guest_(host, plan) {}

    client::Guest guest_;
};

} // namespace refhv::front
