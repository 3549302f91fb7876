// SPDX-License-Identifier: MIT
// Does a claim see each seeded fault? For each, its claims are made until one fails that holds without it.
#pragma once

#include "conformance/prove/faulty_target.hpp"

#include <string>
#include <vector>

namespace refhv::front {

enum class Seen : u8 {
    caught,
    missed,
    not_shown, // nothing that its claims asked for shows it on this target
};

struct Seed {
    const Fault* fault;
    Seen seen;
    std::string by; // the claim
};

// The faults of this CPU's maker whose name contains `part`, a line each. The session must be on `target`.
[[nodiscard]] std::vector<Seed> seed(const std::string& part, FaultyTarget& target);
// The last line; 0, or 1 where one is missed, or none is caught.
[[nodiscard]] int conclude(const std::vector<Seed>& seeds);

} // namespace refhv::front
