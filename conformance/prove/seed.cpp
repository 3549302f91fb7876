// SPDX-License-Identifier: MIT
#include "conformance/prove/seed.hpp"

#include "refhv/front/options.hpp"
#include "refhv/front/session.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <iostream>

namespace refhv::front {

namespace {

Verdict verdict_of(const std::string& claim) {
    Session::get().begin_trial();
    ::testing::GTEST_FLAG(filter) = claim;
    const bool passes = RUN_ALL_TESTS() == 0;
    const auto& all = Verdicts::get().all();
    const Verdict verdict = all.empty() ? Verdict::error : all.back().verdict;
    return verdict == Verdict::pass && !passes ? Verdict::error : verdict;
}

Seed seed_one(const Fault& fault, FaultyTarget& target) {
    bool shown = false;
    const auto claims = claims_selected_by(fault.claims);
    if (claims.empty()) { // a name that no claim has
        return {&fault, Seen::missed, {}};
    }
    for (const std::string& claim : claims) {
        target.seed(&fault);
        const Verdict verdict = verdict_of(claim);
        const bool here = target.has_shown();
        shown = shown || (here && verdict == Verdict::pass); // it had something to see
        target.seed(nullptr);
        if (here && verdict == Verdict::fail && verdict_of(claim) == Verdict::pass) {
            return {&fault, Seen::caught, claim};
        }
    }
    return {&fault, shown ? Seen::missed : Seen::not_shown, {}};
}

bool is_of(Maker maker) {
    return maker == Maker::both || (maker == Maker::vmx) == (Session::get().vendor() == abi::Vendor::vmx);
}

} // namespace

std::vector<Seed> seed(const std::string& part, FaultyTarget& target) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    std::vector<Seed> seeds;
    for (const FaultTable& table : seeded_faults()) {
        for (const Fault& fault : table.rows) {
            if (!is_of(table.maker) || std::string(fault.name).find(part) == std::string::npos) {
                continue;
            }
            seeds.push_back(seed_one(fault, target));
            const Seed& s = seeds.back();
            std::cout << (s.seen == Seen::caught   ? "caught     "
                          : s.seen == Seen::missed ? "MISSED     "
                                                   : "not shown  ")
                      << fault.name << (s.by.empty() ? "" : ", by " + s.by) << '\n'
                      << std::flush;
        }
    }
    return seeds;
}

int conclude(const std::vector<Seed>& seeds) {
    const auto count = [&](Seen which) {
        return std::count_if(seeds.begin(), seeds.end(), [&](const Seed& s) { return s.seen == which; });
    };
    const auto caught = count(Seen::caught), missed = count(Seen::missed);
    std::cout << seeds.size() << " faults were seeded: " << caught << " are caught, " << missed
              << " are missed, " << count(Seen::not_shown) << " show in nothing that this target offers.\n";
    return caught == 0 || missed != 0 ? exit_failed : exit_ok;
}

} // namespace refhv::front
