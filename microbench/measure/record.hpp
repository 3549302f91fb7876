// SPDX-License-Identifier: MIT
// The result record: one JSON file per launch and target, by docs/record.schema.json.
#pragma once

#include "microbench/measure/results.hpp"

#include <chrono>
#include <nlohmann/json_fwd.hpp>

namespace refhv::bench {

// From the session, the verdicts and the results. Numbers that do not exist are null.
[[nodiscard]] nlohmann::ordered_json make_record(std::chrono::system_clock::time_point started);

// Writes beside the file and renames, so that nobody ever reads half a record. Throws std::runtime_error.
void write_record(const std::string& path, const nlohmann::ordered_json& record);

// Throws what write_record would throw if it cannot write there.
void try_record(const std::string& path);

} // namespace refhv::bench
