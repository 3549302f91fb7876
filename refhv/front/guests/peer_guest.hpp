// SPDX-License-Identifier: MIT
// A guest that marks moments and waits for what a peer does at each: the same loop for every act, waiting by
// PAUSE or by HLT. Claims count with it, rows take times with it.
#pragma once

#include "refhv/client/guest/vm.hpp"

namespace refhv::front {

// How the guest waits.
enum class Wait : u8 {
    pause,
    hlt,    // not for NMIs, and not for writes: it might sleep through them
    mwait,  // MONITOR and MWAIT, C1: for writes
    masked, // RFLAGS.IF = 0 from before the mark until long after it, then STI
    never,  // likewise, without the STI: for one round
};

struct PeerRun {
    abi::Mode mode = abi::Mode::nested;
    abi::PeerAct act = abi::PeerAct::interrupt;
    Wait wait = Wait::pause;
    bool hlt_exits = false; // and the core sleeps for the guest
    u64 count = 0;
    u64 delay = 0;    // TSC ticks
    u64 deadline = 0; // client::Guest::Options::deadline
    u32 cpu = 0, peer_cpu = 1;
    bool suppress = false;        // post: SN is set
    bool mark_in_handler = false; // NMIs: the next one is asked for while NMIs are blocked
    bool posted = false;          // guest: the core posts what it sends
    u32 elsewhere = 0;            // guest: the sender names an APIC ID that many beyond the receiver's
};

// One round of it, on the guest's TSC: when it marked the moment; the first instruction of its handler;
// when it saw, back in its loop, that the handler had been there. Writes have no handler: 0.
struct PeerRound {
    u64 marked, taken, seen;
};

struct PeerResult {
    client::RunResult run;
    std::vector<PeerRound> rounds;
    std::vector<u64> sent;  // guest: the sender's TSC before each of its WRMSRs
    u64 taken;              // by the guest's handler; of writes: the last value
    u64 deepest;            // mark_in_handler: of how many handlers within each other
    u64 posted[4], control; // what is left in the posted-interrupt descriptor
};

inline constexpr u8 peer_vector = 0x51, peer_notification = 0x62;

// Throws as Guest does.
[[nodiscard]] PeerResult run_with_peer(client::GuestHost& host, const client::HelloInfo& hello,
                                       const PeerRun& what);

} // namespace refhv::front
