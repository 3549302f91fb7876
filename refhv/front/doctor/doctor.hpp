// SPDX-License-Identifier: MIT
// Every condition for trustworthy numbers on a machine, with the command that mends it.
#pragma once

#include "refhv/front/doctor/finding.hpp"
#include "refhv/front/doctor/host.hpp"

#include <nlohmann/json_fwd.hpp>

namespace refhv::front::doctor {

// All of them, in the order of a report. Conditions that cannot be asked for on this machine are left out.
[[nodiscard]] Findings examine(const Host& host);

// The same by subject.
void examine_virtualization(const Host& host, Findings& out); // CPU, firmware, who holds it, /dev/kvm
void examine_kernel(const Host& host, Findings& out);         // what a module needs
void examine_clocks(const Host& host, Findings& out);         // frequency and clock source
void examine_company(const Host& host, Findings& out); // what else runs: SMT, isolation, watchdog, load
void examine_memory(const Host& host, Findings& out);  // huge pages, microcode, mitigations
void examine_encrypted_memory(const Host& host, Findings& out); // SEV, TDX

// {"findings": [{"name", "state", "text", "mend"}]}: the object `doctor` of a record.
[[nodiscard]] nlohmann::ordered_json record(const Findings& findings);

// A line each, and what mends it below.
[[nodiscard]] std::string table(const Findings& findings);

[[nodiscard]] bool any_blocked(const Findings& findings);

} // namespace refhv::front::doctor
