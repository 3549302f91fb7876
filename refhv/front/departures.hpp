// SPDX-License-Identifier: MIT
// Known departures of emulators from the manual: the part of conformance/departures.json that decides an exit
// code. docs/adding.md has the rule; refhv/departures.py of the package applies the same, and says what has
// gone besides.
#pragma once

#include "refhv/client/target.hpp"
#include "refhv/front/verdict.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace refhv::front {

// Does the version lie in the range, such as "2.7", ">=2.7", ">=7.2 <10"? Numbers compare as numbers; a
// condition looks at as many of them as it has itself. Throws std::invalid_argument.
[[nodiscard]] bool version_within(std::string_view version, std::string_view range);

class Departures {
  public:
    // The list that the build puts beside the program. None there: an empty list.
    [[nodiscard]] static std::string default_path();

    Departures() = default;
    // Those that count on this target, with the version of its emulator. Throws UsageError: the path and what
    // is wrong.
    Departures(const std::string& path, const client::TargetInfo& target);

    // Did the claim come out as it is listed, by the section that is listed?
    [[nodiscard]] bool knows(const ClaimResult& claim) const;

  private:
    struct Entry {
        std::string claim, section, verdict;
    };
    std::vector<Entry> entries_;
};

} // namespace refhv::front
