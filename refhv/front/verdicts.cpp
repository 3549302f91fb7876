// SPDX-License-Identifier: MIT
#include "refhv/front/verdicts.hpp"

#include "refhv/front/events.hpp"

#include <algorithm>
#include <string_view>

namespace refhv::front {

namespace {

Verdict verdict_named(std::string_view name) {
    for (Verdict v : {Verdict::pass, Verdict::fail, Verdict::skip, Verdict::error, Verdict::miss}) {
        if (name == name_of(v)) {
            return v;
        }
    }
    return Verdict::error;
}

std::string one_line(std::string_view text) {
    std::string out;
    for (char c : text) {
        if (c != '\n' && c != ' ') {
            out += c;
        } else if (!out.empty() && out.back() != ' ') {
            out += ' ';
        }
    }
    while (!out.empty() && out.back() == ' ') {
        out.pop_back();
    }
    return out;
}

bool wildcard(std::string_view pattern, std::string_view name) {
    if (pattern.empty()) {
        return name.empty();
    }
    if (pattern[0] == '*') {
        return wildcard(pattern.substr(1), name) || (!name.empty() && wildcard(pattern, name.substr(1)));
    }
    return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) &&
           wildcard(pattern.substr(1), name.substr(1));
}

bool any_of_list(std::string_view list, std::string_view name) {
    for (;;) {
        const auto colon = list.find(':');
        if (wildcard(list.substr(0, colon), name)) {
            return true;
        }
        if (colon == std::string_view::npos) {
            return false;
        }
        list.remove_prefix(colon + 1);
    }
}

} // namespace

Verdicts& Verdicts::get() {
    static Verdicts* const verdicts = [] {
        auto* listener = new Verdicts; // GoogleTest deletes it
        ::testing::UnitTest::GetInstance()->listeners().Append(listener);
        return listener;
    }();
    return *verdicts;
}

const ClaimResult* Verdicts::find(const std::string& name) const {
    const auto it =
        std::find_if(results_.begin(), results_.end(), [&](const auto& r) { return r.name == name; });
    return it == results_.end() ? nullptr : &*it;
}

bool Verdicts::failed_elsewhere(int google) const {
    const bool claims = std::any_of(results_.begin(), results_.end(), [](const ClaimResult& r) {
        return r.verdict != Verdict::pass && r.verdict != Verdict::skip;
    });
    return (google != 0 && !claims) || ::testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed();
}

int Verdicts::exit_code() const {
    const auto any = [this](Verdict verdict) {
        return std::any_of(results_.begin(), results_.end(),
                           [&](const ClaimResult& r) { return r.verdict == verdict && !is_expected(r); });
    };
    if (any(Verdict::miss)) {
        return 3;
    }
    return any(Verdict::fail) || any(Verdict::error) ? 1 : 0;
}

void Verdicts::OnTestEnd(const ::testing::TestInfo& info) {
    ClaimResult claim;
    claim.name = std::string(info.test_suite_name()) + "." + info.name();
    const ::testing::TestResult& result = *info.result();
    bool said = false;
    for (int i = 0; i < result.test_property_count(); ++i) {
        const ::testing::TestProperty& property = result.GetTestProperty(i);
        if (std::string_view(property.key()) == "verdict") {
            claim.verdict = verdict_named(property.value());
            said = true;
        } else if (std::string_view(property.key()) == "section") {
            claim.section = property.value();
        }
    }
    for (int i = 0; i < result.total_part_count() && claim.detail.empty(); ++i) {
        const auto& part = result.GetTestPartResult(i);
        if (part.failed() || part.skipped()) {
            claim.detail = one_line(part.message());
        }
    }
    if (!said || (claim.verdict == Verdict::pass && result.Failed())) {
        claim.verdict = Verdict::error;
    }
    if (claim.verdict != Verdict::pass && claim.detail.empty()) {
        claim.detail = "no detail";
    }
    Events::get().send(claim);
    results_.push_back(std::move(claim));
}

bool filter_matches(const std::string& filter, const std::string& name) {
    const auto dash = filter.find('-');
    const std::string positive = filter.substr(0, dash);
    if (dash != std::string::npos && any_of_list(std::string_view(filter).substr(dash + 1), name)) {
        return false;
    }
    return any_of_list(positive.empty() ? "*" : positive, name);
}

std::vector<std::string> claims_selected_by(const std::string& filter) {
    std::vector<std::string> names;
    const auto& unit = *::testing::UnitTest::GetInstance();
    for (int s = 0; s < unit.total_test_suite_count(); ++s) {
        const auto& suite = *unit.GetTestSuite(s);
        for (int t = 0; t < suite.total_test_count(); ++t) {
            std::string name = std::string(suite.name()) + "." + suite.GetTestInfo(t)->name();
            if (filter_matches(filter, name)) {
                names.push_back(std::move(name));
            }
        }
    }
    return names;
}

} // namespace refhv::front
