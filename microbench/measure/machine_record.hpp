// SPDX-License-Identifier: MIT
// The machine and environment parts of a record; docs/record.schema.json gives the shape.
#pragma once

#include "refhv/front/session.hpp"

#include <nlohmann/json_fwd.hpp>

namespace refhv::bench {

// From a greeting: every CPUID leaf, libcpuid's reading of them, our own model table's name, what the machine
// can virtualize and why not.
[[nodiscard]] nlohmann::ordered_json machine_record(const client::HelloInfo& hello, bool apart);

// 16 hex digits, FNV-1a 64 over facts that do not change from run to run: vendor, family, model, stepping,
// brand, microcode, hypervisor underneath, threads per core, page-table depth, mitigation MSRs, and on real
// machines the kernel's release. One that is emulated or behind a line stands `apart`: its key does not
// depend on where its client runs.
[[nodiscard]] std::string machine_key(const client::HelloInfo& hello, bool apart);

// What libcpuid (0.6.2 knows little after 2021) makes of the leaves; null if it refuses them.
[[nodiscard]] nlohmann::ordered_json libcpuid_reading(const client::HelloInfo& hello);

// Kernel, launcher, refhv's revision, compiler and library versions of this side. `facts`: what this machine
// is set to (front/doctor/environment.hpp), left out where the target may run on another.
[[nodiscard]] nlohmann::ordered_json environment_record(const client::TargetInfo& info,
                                                        const nlohmann::ordered_json& facts);

} // namespace refhv::bench
