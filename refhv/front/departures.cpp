// SPDX-License-Identifier: MIT
#include "refhv/front/departures.hpp"

#include "refhv/front/options.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace refhv::front {
namespace {

using Numbers = std::vector<unsigned>;

Numbers numbers(std::string_view text) {
    Numbers found;
    const char* at = text.data();
    const char* const end = at + text.size();
    for (;; ++at) {
        const auto [rest, error] = std::from_chars(at, end, found.emplace_back());
        if (error != std::errc{} || (rest != end && *rest != '.')) {
            throw std::invalid_argument("'" + std::string(text) + "' is no version");
        }
        if (rest == end) {
            return found;
        }
        at = rest;
    }
}

bool holds(const Numbers& version, std::string_view condition) {
    const auto digit = std::min(condition.find_first_of("0123456789"), condition.size());
    const std::string_view sign = condition.substr(0, digit);
    const Numbers bound = numbers(condition.substr(digit));
    Numbers cut = version;
    cut.resize(bound.size());
    if (sign.empty()) {
        return cut == bound;
    }
    if (sign == ">=" || sign == "<=") {
        return sign[0] == '>' ? cut >= bound : cut <= bound;
    }
    if (sign == ">" || sign == "<") {
        return sign[0] == '>' ? cut > bound : cut < bound;
    }
    throw std::invalid_argument("'" + std::string(condition) + "' is no condition on a version");
}

// A family lists its other CPU models too, but what runs on two CPUs is a family of its own.
bool of_family(std::string_view target, std::string_view family) {
    return target == family || (!family.ends_with("-smp") && target.starts_with(std::string(family) + "-") &&
                                target != std::string(family) + "-smp");
}

bool counts(const nlohmann::json& entry, const client::TargetInfo& target) {
    if (!of_family(target.name, entry.at("target").get<std::string>())) {
        return false;
    }
    if (const auto models = entry.value("models", std::vector<std::string>{});
        !models.empty() && std::find(models.begin(), models.end(), target.name) == models.end()) {
        return false;
    }
    return entry.at("emulator") == target.emulator.name &&
           (target.emulator.version.empty() ||
            version_within(target.emulator.version, entry.at("versions").get<std::string>()));
}

} // namespace

bool version_within(std::string_view version, std::string_view range) {
    const Numbers subject = numbers(version);
    std::istringstream conditions{std::string(range)};
    bool any = false;
    bool all = true;
    for (std::string condition; conditions >> condition; any = true) {
        all = holds(subject, condition) && all;
    }
    if (!any) {
        throw std::invalid_argument("a range of versions must not be empty");
    }
    return all;
}

std::string Departures::default_path() {
    std::error_code error;
    return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "departures.json")
        .string();
}

Departures::Departures(const std::string& path, const client::TargetInfo& target) {
    std::ifstream file(path);
    if (!file && path == default_path()) {
        return;
    }
    try {
        if (!file) {
            throw std::invalid_argument("cannot be read; name a file like conformance/departures.json");
        }
        const auto list = nlohmann::json::parse(file);
        for (const auto& entry : list.at("departures")) {
            if (!counts(entry, target)) {
                continue;
            }
            const auto& claim = entry.at("claim");
            for (const auto& name : claim.is_array() ? claim : nlohmann::json::array({claim})) {
                entries_.push_back({name, entry.at("section"), entry.value("verdict", "FAIL")});
            }
        }
    } catch (const std::exception& problem) {
        throw UsageError(path + ": " + problem.what());
    }
}

bool Departures::knows(const ClaimResult& claim) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
        return entry.claim == claim.name && entry.section == claim.section &&
               entry.verdict == name_of(claim.verdict);
    });
}

} // namespace refhv::front
