// SPDX-License-Identifier: MIT
// What is not safe on a machine that somebody works on. A platform that is alone on its machine may permit
// it, each item by itself; a request that needs a denied one is answered with its name.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::abi {

enum class Permit : u8 {
    // Of the host's safety floor (refhv/vmx/floor.hpp, refhv/svm/floor.hpp): a guest may …
    interrupts,     // … run where external interrupts, NMIs, SMIs or INITs do not exit
    exceptions,     // … keep #DB and #AC to itself, and with them an endless delivery
    machine_checks, // … keep #MC to itself, and have CR4.MCE as it likes
    cache_control,  // … have CR0.CD and CR0.NW, which a VM exit leaves as they are; execute INVD without an
                    // exit
    control_bits,   // … set bits of CR4 whose features use MSRs of the host
    xcr0,           // … execute XSETBV without an exit
    world_switch,   // … run with other entry and exit controls, nested paging off, or without bitmaps
    host_msrs,      // the core may set an MSR of the host's for good (DE_CFG, so that LFENCE orders stamps;
                    // the lock of IA32_FEATURE_CONTROL, where firmware has left it open)
    // Of requests (refhv/vmx/field_rules.cpp, refhv/svm/vmcb_rules.cpp, the core): one may …
    native_guests,      // … have mode native, where the guest is in ring 0 of the host
    host_fields,        // … read and write the host-state area of a VMCS, which holds the host's addresses
    physical_addresses, // … name any in fields and raw nested entries, and is told those of the VM
    translations,    // … use VPIDs, ASIDs and roots other than the VM's own, and what the shadow MMU owns
    msr_lists,       // … give the CPU lists of MSRs for its entries and exits
    permission_maps, // … use I/O and MSR bitmaps other than the core's
    deaf_guests,     // … start a guest in a state in which the CPU takes no interrupt or no NMI
    unlisted_fields, // … write and read fields and bytes that the tables do not know
    host_vectors,    // … have interrupts sent to CPUs, and vectors taken off them: Peer, posting
    peer_nmis,       // … have NMIs, INITs and start-up IPIs sent to a CPU
    shutdown,        // … end the machine
    count_,
};

// By Permit.
inline constexpr const char* permit_names[] = {"interrupts",      "exceptions",         "machine_checks",
                                               "cache_control",   "control_bits",       "xcr0",
                                               "world_switch",    "host_msrs",          "native_guests",
                                               "host_fields",     "physical_addresses", "translations",
                                               "msr_lists",       "permission_maps",    "deaf_guests",
                                               "unlisted_fields", "host_vectors",       "peer_nmis",
                                               "shutdown"};
static_assert(sizeof permit_names / sizeof permit_names[0] == static_cast<u8>(Permit::count_));
static_assert(static_cast<u8>(Permit::count_) <= 32); // HelloReply::permissions

} // namespace refhv::abi
