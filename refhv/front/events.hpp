// SPDX-License-Identifier: MIT
// Progress for the parent process: one JSON object a line on the descriptor of --events-fd. Nothing happens
// without.
#pragma once

#include "refhv/client/emulator.hpp"
#include "refhv/front/verdict.hpp"

#include <nlohmann/json_fwd.hpp>

namespace refhv::front {

// As events and records have it: name, version and banner; null where there is none.
[[nodiscard]] nlohmann::ordered_json emulator_record(const client::Emulator& emulator);

class Events {
  public:
    static Events& get();
    // Throws UsageError if the descriptor is not open for writing.
    void open(int descriptor);
    // A reader that has gone away ends the events, not the run.
    void send(const nlohmann::ordered_json& event);
    void send(const ClaimResult& claim);

  private:
    int descriptor_ = -1;
};

} // namespace refhv::front
