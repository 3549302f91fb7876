// SPDX-License-Identifier: MIT
// Is a tick an instruction on this target? Where it says so (TargetInfo::counts_instructions) every launch
// has to show it: a guest of known instructions (guests/counted_guest.hpp) runs in every mode that the target
// offers, and each pair of stamps must differ by exactly that many ticks. An emulator may count in other
// units with another option or in another version, and nothing else in a record would show it.
#pragma once

#include "refhv/client/guest/vm.hpp"
#include "refhv/front/guests/counted_guest.hpp"

namespace refhv::front {

struct TickProof {
    usize pairs = 0;   // how many were looked at
    std::string wrong; // one line; empty: each of them was right
};

// Instructions of the core at each CPUID of the guest; none where CPUID does not exit.
[[nodiscard]] std::optional<u64> instructions_of_exit(const client::HelloInfo& hello, abi::Mode mode);

// What a pair takes beyond an empty one. `exit` is instructions_of_exit.
[[nodiscard]] u64 due_ticks(const CountedPair& pair, const client::TickRules& rules, std::optional<u64> exit);

// Holds one round's samples against what is due; one line about the pair that is off the most, empty if none
// is.
[[nodiscard]] std::string judge_ticks(std::span<const client::Sample> samples, const client::TickRules& rules,
                                      std::optional<u64> exit);

// One mode, on one CPU. Throws as Guest does.
[[nodiscard]] TickProof prove_ticks(client::GuestHost& host, const client::HelloInfo& hello, abi::Mode mode,
                                    u32 cpu = 0);

// Does the clock of a machine that says nothing of the kind count instructions, as one of the emulators here
// does? Real time never fits all pairs: a pair of fenced stamps alone takes more cycles than instructions.
[[nodiscard]] bool counts_instructions(client::GuestHost& host, const client::HelloInfo& hello);

// Every mode on the first CPU, one mode on every other.
[[nodiscard]] TickProof prove_ticks(client::GuestHost& host, const client::HelloInfo& hello);

} // namespace refhv::front
