// SPDX-License-Identifier: MIT
// The result record: one JSON file per launch and target, by docs/record.schema.json.
#pragma once

#include "microbench/measure/results.hpp"

#include <chrono>
#include <nlohmann/json_fwd.hpp>

namespace refhv::bench {

// From the session, the verdicts and the results. Numbers that do not exist are null. `doctor` is what it
// said of this machine before anything was measured (front/doctor/doctor.hpp); a target elsewhere has none.
[[nodiscard]] nlohmann::ordered_json make_record(std::chrono::system_clock::time_point started,
                                                 const nlohmann::ordered_json& doctor,
                                                 const nlohmann::ordered_json& facts);

// Throws what front::write_whole throws.
void write_record(const std::string& path, const nlohmann::ordered_json& record);

} // namespace refhv::bench
