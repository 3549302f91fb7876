// SPDX-License-Identifier: MIT
// A guest in the second slot that does nothing but send interrupts, as abi::PeerAct::guest: a stamp, then
// WRMSR of the ICR in x2APIC mode.
#pragma once

#include "conformance/session.hpp"

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
    // When it sent, on its own TSC; destroys it.
    [[nodiscard]] std::vector<u64> finish(u64 count);

  private:
    IpiSender(client::GuestHost& host, const client::Plan& plan) : guest_(host, plan) {}

    client::Guest guest_;
};

} // namespace refhv::front
