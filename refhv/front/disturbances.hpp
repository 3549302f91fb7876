// SPDX-License-Identifier: MIT
// What comes between while a launch measures: SMIs, throttling, frequency, interrupts, a TSC that does not
// keep its rate. Counters at two moments; what happened is their difference, and docs/method.md
// ("Disturbances") has the rule.
#pragma once

#include "refhv/client/target.hpp"

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace refhv::front {

// Of one CPU. The order of counter_names.
enum class Counter : u8 {
    smis,                 // MSR_SMI_COUNT (34H)
    aperf,                // IA32_APERF (E8H)
    mperf,                // IA32_MPERF (E7H)
    therm_status,         // IA32_THERM_STATUS (19CH), as it is
    package_therm_status, // IA32_PACKAGE_THERM_STATUS (1B1H), as it is
    core_throttles,       // by the kernel's count
    package_throttles,    // likewise
    interrupts,           // /proc/interrupts, all lines but NMI
    nmis,                 // its line NMI
    tsc,
    clock_ns, // CLOCK_MONOTONIC_RAW, read together with the TSC
};
inline constexpr usize counters = 11;
extern const std::array<const char*, counters> counter_names;

struct Reading {
    std::optional<u64> value;
    std::string reason; // of a value that is not there
};
using Moment = std::array<Reading, counters>;

// What of one launch or one row: differences, none where either end is missing.
struct Between {
    std::optional<u64> smis, interrupts, nmis, throttles;
    std::optional<double> frequency; // APERF / MPERF: of the base frequency, while not halted
    std::optional<double> tsc_hz;
    std::vector<std::string> thermal; // what the thermal registers tell of, in words
};
[[nodiscard]] Between between(const Moment& before, const Moment& after);

// The rule: what a row must be flagged with, whose `usual` is the median of all rows of the launch.
struct Usual {
    std::optional<double> frequency, tsc_hz;
};
[[nodiscard]] Usual usual_of(const std::vector<Between>& rows);
[[nodiscard]] std::vector<std::string> flags_of(const Between& row, const Usual& usual);

// What a reader is given: MSRs as a hello has them (null: no core runs there, /dev/cpu/N/msr is asked), the
// files below `root` (empty: another machine's), and which CPU.
struct Source {
    std::filesystem::path root;
    std::optional<unsigned> cpu;
    const client::HelloInfo* leaves = nullptr; // CPUID
    const std::vector<abi::MsrValue>* msrs = nullptr;
};
[[nodiscard]] Moment read_moment(const Source& source);

} // namespace refhv::front
