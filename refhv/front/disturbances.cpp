// SPDX-License-Identifier: MIT
#include "refhv/front/disturbances.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace refhv::front {

const std::array<const char*, counters> counter_names{"smis",
                                                      "aperf",
                                                      "mperf",
                                                      "therm_status",
                                                      "package_therm_status",
                                                      "core_throttles",
                                                      "package_throttles",
                                                      "interrupts",
                                                      "nmis",
                                                      "tsc",
                                                      "clock_ns"};

namespace {

constexpr double apart = 0.02;      // of a frequency, as the gate has it for a change of a median
constexpr double tsc_apart = 0.001; // of the TSC's rate

const std::optional<u64>& at(const Moment& moment, Counter counter) {
    return moment[static_cast<usize>(counter)].value;
}

// Counters only rise. One that fell was written meanwhile, or wrapped.
std::optional<u64> risen(const Moment& before, const Moment& after, Counter counter) {
    const auto &from = at(before, counter), &to = at(after, counter);
    return from && to && *to >= *from ? std::optional(*to - *from) : std::nullopt;
}

// SDM 3B, "Digital Thermal Sensor": a status bit is of now, the one above it stays until software clears it.
struct ThermalBit {
    unsigned status;
    const char* words;
};
constexpr ThermalBit core_bits[] = {{0, "thermal monitor"},      {2, "PROCHOT"},
                                    {4, "critical temperature"}, {10, "power limit"},
                                    {12, "current limit"},       {14, "cross-domain limit"}};
constexpr ThermalBit package_bits[] = {
    {0, "thermal monitor"}, {2, "PROCHOT"}, {4, "critical temperature"}, {10, "power limit"}};

template <usize N>
void tell_thermal(const char* whose, const Moment& before, const Moment& after, Counter counter,
                  const ThermalBit (&bits)[N], std::vector<std::string>& out) {
    const auto &from = at(before, counter), &to = at(after, counter);
    if (!from || !to) {
        return;
    }
    for (const ThermalBit& bit : bits) {
        const u64 status = u64{1} << bit.status, log = status << 1;
        const bool came = (*to & log) != 0 && (*from & log) == 0;
        if (came || ((*from | *to) & status) != 0) {
            out.push_back(std::string(whose) + bit.words);
        }
    }
}

std::optional<double> median(std::vector<double> values) {
    if (values.empty()) {
        return std::nullopt;
    }
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

bool is_apart(const std::optional<double>& value, const std::optional<double>& usual, double by) {
    return value && usual && std::abs(*value - *usual) > by * *usual;
}

template <class... T>
std::string text(const char* format, T... values) {
    char out[160];
    std::snprintf(out, sizeof out, format, values...);
    return out;
}

} // namespace

Between between(const Moment& before, const Moment& after) {
    Between out;
    out.smis = risen(before, after, Counter::smis);
    out.interrupts = risen(before, after, Counter::interrupts);
    out.nmis = risen(before, after, Counter::nmis);
    const auto core = risen(before, after, Counter::core_throttles),
               package = risen(before, after, Counter::package_throttles);
    if (core || package) {
        out.throttles = core.value_or(0) + package.value_or(0);
    }
    const auto actual = risen(before, after, Counter::aperf), base = risen(before, after, Counter::mperf);
    if (actual && base && *base != 0) {
        out.frequency = static_cast<double>(*actual) / static_cast<double>(*base);
    }
    const auto ticks = risen(before, after, Counter::tsc), ns = risen(before, after, Counter::clock_ns);
    if (ticks && ns && *ns != 0) {
        out.tsc_hz = static_cast<double>(*ticks) * 1e9 / static_cast<double>(*ns);
    }
    tell_thermal("", before, after, Counter::therm_status, core_bits, out.thermal);
    tell_thermal("package: ", before, after, Counter::package_therm_status, package_bits, out.thermal);
    return out;
}

Usual usual_of(const std::vector<Between>& rows) {
    std::vector<double> frequencies, rates;
    for (const Between& row : rows) {
        if (row.frequency) {
            frequencies.push_back(*row.frequency);
        }
        if (row.tsc_hz) {
            rates.push_back(*row.tsc_hz);
        }
    }
    return {median(std::move(frequencies)), median(std::move(rates))};
}

std::vector<std::string> flags_of(const Between& row, const Usual& usual) {
    std::vector<std::string> out;
    if (row.smis && *row.smis != 0) {
        out.push_back(text("%llu SMIs while it was measured: its p99 and max may be theirs",
                           static_cast<unsigned long long>(*row.smis)));
    }
    if (row.throttles && *row.throttles != 0) {
        out.push_back(text("the CPU was throttled %llu times while it was measured",
                           static_cast<unsigned long long>(*row.throttles)));
    }
    for (const std::string& limit : row.thermal) {
        out.push_back("the CPU was limited while it was measured: " + limit);
    }
    if (is_apart(row.frequency, usual.frequency, apart)) {
        out.push_back(text("the CPU ran at %.2f of its base frequency, and at %.2f in most rows",
                           *row.frequency, *usual.frequency));
    }
    if (is_apart(row.tsc_hz, usual.tsc_hz, tsc_apart)) {
        out.push_back(text("the TSC ran at %.1f MHz by the kernel's clock, and at %.1f in most rows",
                           *row.tsc_hz / 1e6, *usual.tsc_hz / 1e6));
    }
    return out;
}

} // namespace refhv::front
