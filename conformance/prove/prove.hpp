// SPDX-License-Identifier: MIT
// Can a claim fail? Each one that holds is made again on altered replies until it does not.
#pragma once

#include "conformance/prove/altering_target.hpp"

#include <string>
#include <vector>

namespace refhv::front {

struct Proof {
    std::string claim;
    std::string notices; // the first part whose alteration made it fail; empty: none did
    bool tried = true;   // false: it did not hold before anything was altered
};

// Runs those claims, each by itself, and prints a line for each that notices nothing, or only an outcome that
// is wrong. The session must be on `target`. GoogleTest's own printing is off from then on.
[[nodiscard]] std::vector<Proof> prove(const std::vector<std::string>& claims, AlteringTarget& target);
// The last lines; 0, or 1 where a claim notices nothing.
[[nodiscard]] int conclude(const std::vector<Proof>& proofs);

} // namespace refhv::front
