// SPDX-License-Identifier: MIT
// The facts behind the doctor's words, as fields of a record's `environment`.
#pragma once

#include "refhv/front/doctor/host.hpp"

#include <nlohmann/json_fwd.hpp>

namespace refhv::front::doctor {

// governor, turbo, smt, cpu, cpu_siblings, isolated, mitigations, huge_pages, clock_source
// (docs/record.schema.json); null where the kernel does not tell. cpu: the one that measures; none: not
// known.
[[nodiscard]] nlohmann::ordered_json environment(const Host& host, std::optional<unsigned> cpu);

// The CPU that measures on a target of this kind ("process", "kvm", "module"); none: not known, or any.
[[nodiscard]] std::optional<unsigned> measuring_cpu(const Host& host, const std::string& kind);

} // namespace refhv::front::doctor
