// SPDX-License-Identifier: MIT
#include "conformance/prove/prove.hpp"

#include "refhv/front/options.hpp"
#include "refhv/front/session.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <iostream>

namespace refhv::front {

namespace {

Verdict run_one(const std::string& claim, AlteringTarget& target, std::optional<Part> part) {
    Session::get().begin_trial();
    target.forget();
    target.alter(part);
    ::testing::GTEST_FLAG(filter) = claim;
    if (const int google = RUN_ALL_TESTS(); google == 0 && part) {
        return Verdict::pass;
    }
    target.alter({});
    const auto& all = Verdicts::get().all();
    return all.empty() ? Verdict::error : all.back().verdict;
}

Proof prove_one(const std::string& claim, AlteringTarget& target) {
    Proof proof{.claim = claim, .notices = "", .tried = true};
    if (run_one(claim, target, {}) != Verdict::pass) {
        proof.tried = false;
        return proof;
    }
    for (unsigned i = 0; i < static_cast<unsigned>(Part::count_) && proof.notices.empty(); ++i) {
        const auto part = static_cast<Part>(i);
        if (run_one(claim, target, part) == Verdict::fail && target.has_altered()) {
            proof.notices = name_of(part);
        }
    }
    return proof;
}

usize count(const std::vector<Proof>& proofs, auto which) {
    return static_cast<usize>(std::count_if(proofs.begin(), proofs.end(), which));
}

bool is_vacuous(const Proof& p) {
    return p.tried && p.notices.empty();
}

bool sees_outcome_only(const Proof& p) {
    return p.notices == name_of(Part::outcome);
}

} // namespace

std::vector<Proof> prove(const std::vector<std::string>& claims, AlteringTarget& target) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    std::vector<Proof> proofs;
    for (const std::string& claim : claims) {
        proofs.push_back(prove_one(claim, target));
        const Proof& p = proofs.back();
        if (is_vacuous(p) || sees_outcome_only(p)) {
            std::cout << p.claim << (is_vacuous(p) ? " notices nothing\n" : " notices the outcome only\n")
                      << std::flush;
        }
    }
    return proofs;
}

int conclude(const std::vector<Proof>& proofs) {
    const usize untried = count(proofs, [](const Proof& p) { return !p.tried; });
    const usize vacuous = count(proofs, is_vacuous);
    const usize outcome = count(proofs, sees_outcome_only);
    std::cout << proofs.size() - untried << " claims that hold were made on altered replies: "
              << proofs.size() - untried - vacuous - outcome << " notice an altered part, " << outcome
              << " the outcome only, " << vacuous << " nothing. " << untried
              << " do not hold here, or are skipped, and were not tried.\n";
    for (unsigned i = 0; i < static_cast<unsigned>(Part::count_); ++i) {
        const std::string name = name_of(static_cast<Part>(i));
        if (const usize n = count(proofs, [&](const Proof& p) { return p.notices == name; }); n != 0) {
            std::cout << "  first by " << name << ": " << n << '\n';
        }
    }
    return vacuous != 0 ? exit_failed : exit_ok;
}

} // namespace refhv::front
