// SPDX-License-Identifier: MIT
// A guest whose instructions between two stamps are counted: the yardstick that a tick is held against.
#pragma once

#include "refhv/client/guest/guest.hpp"

#include <array>

namespace refhv::front {

struct CountedPair {
    enum class Kind : u8 {
        plain,  // nothing exits
        cpuid,  // `count` times CPUID; may exit
        string, // one string instruction with REP and the count register `count`
    };
    const char* what; // between the stamps: "NOPs"
    u32 count;        // of them
    u32 others;       // instructions beside them: what loads registers
    Kind kind;
};

// The instructions from one RDTSC to the next of an empty pair: LFENCE, MOV, MOV, LFENCE, RDTSC.
inline constexpr u64 instructions_of_a_pair = 5;
// Instructions of the core between the guest's CPUID and its next instruction, with policy `advance` and
// without host stamps: refhv/vmx/enter.S from the exit's label to VMRESUME, refhv/svm/enter.S from behind
// VMRUN around to it.
inline constexpr u64 instructions_of_exit_vmx = 19, instructions_of_exit_svm = 14;

// Goes through all pairs `Parameters::count` times and stores a Sample for each, in this order. The first
// time round pays for what happens once: pages that are touched, a VMCB that drops translations.
[[nodiscard]] client::GuestCode counted_guest();
[[nodiscard]] std::span<const CountedPair> counted_pairs();

} // namespace refhv::front
