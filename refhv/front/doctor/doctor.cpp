// SPDX-License-Identifier: MIT
#include "refhv/front/doctor/doctor.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace refhv::front::doctor {

std::string join(std::initializer_list<std::string_view> parts) {
    std::string text;
    for (const std::string_view part : parts) {
        text += part;
    }
    return text;
}

Findings examine(const Host& host) {
    Findings out;
    examine_virtualization(host, out);
    examine_kernel(host, out);
    examine_clocks(host, out);
    examine_company(host, out);
    examine_memory(host, out);
    examine_encrypted_memory(host, out);
    for (Finding& finding : out) {
        constexpr usize longest = 400;
        if (finding.text.size() > longest) { // a machine of many CPUs of many kinds, or of somebody's making
            finding.text.replace(longest, finding.text.npos, "...");
        }
    }
    return out;
}

nlohmann::ordered_json record(const Findings& findings) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Finding& finding : findings) {
        list.push_back({{"name", finding.name},
                        {"state", name_of(finding.state)},
                        {"text", finding.text},
                        {"mend", finding.mend.empty() ? nlohmann::ordered_json()
                                                      : nlohmann::ordered_json(finding.mend)}});
    }
    return {{"findings", list}};
}

std::string table(const Findings& findings) {
    constexpr usize state_width = 9;
    usize width = 0;
    for (const Finding& finding : findings) {
        width = std::max(width, finding.name.size() + 2);
    }
    std::string out;
    const auto padded = [](std::string text, usize size) {
        text.resize(std::max(size, text.size()), ' ');
        return text;
    };
    for (const Finding& finding : findings) {
        out +=
            padded(name_of(finding.state), state_width) + padded(finding.name, width) + finding.text + "\n";
        if (!finding.mend.empty()) {
            out += std::string(state_width + width, ' ') + "-> " + finding.mend + "\n";
        }
    }
    return out;
}

bool any_blocked(const Findings& findings) {
    return std::any_of(findings.begin(), findings.end(),
                       [](const Finding& f) { return f.state == State::blocked; });
}

} // namespace refhv::front::doctor
