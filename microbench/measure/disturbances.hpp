// SPDX-License-Identifier: MIT
// The counters of disturbances, read before each row and behind it.
#pragma once

#include "refhv/front/disturbances.hpp"

#include <nlohmann/json_fwd.hpp>

namespace refhv::bench {

class Watch {
  public:
    static Watch& get();

    // As they are now. None: nothing can come between on this target, or it did not answer.
    [[nodiscard]] std::optional<front::Moment> now();
    // From before a row's measurement to now; remembers the first moment of the launch and the last.
    [[nodiscard]] std::optional<front::Between> since(const std::optional<front::Moment>& before);
    // `disturbances` of the record.
    [[nodiscard]] nlohmann::ordered_json record() const;

  private:
    std::optional<unsigned> cpu_;
    std::optional<front::Moment> first_, last_;
};

// `disturbances` of a row.
[[nodiscard]] nlohmann::ordered_json to_json(const front::Between& between);

} // namespace refhv::bench
