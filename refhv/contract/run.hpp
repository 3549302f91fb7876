// SPDX-License-Identifier: MIT
// Runs: what is asked, and everything that a run leaves behind. Part of abi.hpp.
#pragma once

#include "refhv/contract/state.hpp"

namespace refhv::abi {

enum RunFlags : u32 {
    // Time stamps at the first and last host instruction of every handled exit. Needs 0 < repeats <=
    // max_stamps: the run ends (repeats_done) before it would lack room.
    run_host_stamps = 1u << 0,
    // An Exit for every one that was not answered by stepping over an instruction on the exit path. Needs 0 <
    // repeats <= max_exits; not together with run_host_stamps.
    run_log_exits = 1u << 1,
};

// What a second CPU does, and when, while the run goes on. It looks at a word of guest memory; once that
// holds n or more, and no earlier than `delay` after it saw that, it does its n-th act, n from 1 to `count`.
// The guest thereby marks the moments, and one act is never done before the one before it was answered.
struct Peer {
    u16 act;         // PeerAct; none: no peer, and all else here 0
    u8 vector;       // interrupt and post: 33 to 239; a higher one is the core's. start_up: its page
    u8 notification; // of a post: its vector, 33 to 239
    u32 cpu;         // not Run::cpu
    u64 count;
    u64 mark;  // guest-physical address of the word, 8 bytes, aligned
    u64 delay; // TSC ticks
    // Guest-physical. write: 8 bytes, aligned. post: the posted-interrupt descriptor, 64. guest: likewise,
    // and what it sends is posted there; 0: it is sent.
    u64 address;
    u64 value; // write: the first; every further one is greater by 1. guest: the VM's slot
};

// Of one act, on the peer's TSC.
struct PeerStamp {
    u64 before;
    u64 after;
};

struct Run {
    u32 vm;
    u32 flags;            // RunFlags
    u64 repeats;          // end after so many handled exits; 0: no such end
    u64 deadline;         // end after so many TSC ticks; 0: the core's own limit
    u32 cpu;              // below HelloReply::cpus
    u32 preemption_timer; // VMX: value at every entry where Intercept::preemption_timer is set
    u32 max_stamps;       // room for host stamps in the reply
    u32 max_exits;        // room for logged exits in the reply
    u32 max_peer_stamps;  // room for the first so many acts in the reply
    u32 extra_count;      // of those Extras that have a number
    u64 extras;           // bit per Extra: done at every exit that is answered, and undone before the entry
    u32 event;            // comes into the guest in this run, as PolicyEntry::event says how; 0: none
    u32 event_error;      // the error code of such an exception
    Peer peer;
};

struct Exit {
    u16 reason;             // Reason
    u16 vector;             // exception: the vector
    u32 instruction_length; // VMX: VM-exit instruction length. SVM: nRIP - RIP, 0 where not offered
    u64 raw_reason;         // VMX: exit reason. SVM: EXITCODE
    u64 qualification;      // VMX: exit qualification. SVM: EXITINFO1
    u64 info;               // VMX: VM-exit instruction information. SVM: EXITINFO2
    u64 guest_physical;     // of a nested violation
    u64 guest_linear;       // VMX: guest-linear address
    u64 next_rip;           // SVM: nRIP; VMX: RIP + length
    u32 interruption_info;  // VMX: VM-exit interruption information. SVM: 0
    u32 interruption_error;
    u64 vectoring; // VMX: IDT-vectoring information | error code << 32. SVM: EXITINTINFO
};

// How the hardware refused an entry.
struct Refusal {
    u32 instruction_error; // VMX: VM-instruction error (SDM 3C 31.4), VMLAUNCH/VMRESUME failed
    u32 entry_failure;     // VMX: basic exit reason 33, 34 or 41. SVM: 1 for VMEXIT_INVALID
    u64 qualification;
};

struct HostStamp {
    u64 first; // TSC at the first host instruction after the exit
    u64 last;  // TSC at the last host instruction before the next entry
};

// followed by HostStamp[stamp_count], or by Exit[exit_count]; then by PeerStamp[peer_stamp_count]
struct RunReply {
    Exit exit;
    Refusal refusal;
    GuestState state;
    u64 tsc_begin, tsc_end; // around the run, on the host
    u64 entries;
    u64 handled;          // exits that the policy answered without ending the run
    u64 interrupts, nmis; // disturbances: external interrupts and NMIs taken while the guest ran
    u32 host_changed;     // HostState bits that differ after the run
    u32 stamp_count;
    u32 exit_count;
    u32 peer_stamp_count;
    u64 peer_acts;       // of Peer::count, done when the run ended
    u64 events;          // 1: Run::event has been delivered, or is lost in an exit's `vectoring`
    u64 longest_stretch; // TSC ticks between two windows on the host, in this run or before it in the batch
    u64 counts[64];      // exits per Reason, the last one included
};

static_assert(sizeof(Peer) == 48 && sizeof(PeerStamp) == 16);
static_assert(sizeof(Run) == 64 + sizeof(Peer));
static_assert(sizeof(Exit) == 72 && sizeof(Refusal) == 16 && sizeof(HostStamp) == 16);
static_assert(sizeof(RunReply) == 72 + 16 + sizeof(GuestState) + 11 * 8 + 64 * 8);

} // namespace refhv::abi
