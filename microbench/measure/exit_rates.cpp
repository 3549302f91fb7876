// SPDX-License-Identifier: MIT
#include "microbench/measure/exit_rates.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;

bool is_shadowed(Mode mode) {
    return mode == Mode::shadow || mode == Mode::vtlb;
}

bool belongs_to_paging(Reason reason) {
    switch (reason) {
    case Reason::exception:
    case Reason::invlpg:
    case Reason::invpcid:
    case Reason::cr0_read:
    case Reason::cr0_write:
    case Reason::cr3_read:
    case Reason::cr3_write:
    case Reason::cr4_read:
    case Reason::cr4_write:
    case Reason::cr_other:
        return true;
    default:
        return false;
    }
}

ExitRates exit_rates(const RateCounts& counts, u64 operations) {
    ExitRates rates;
    for (usize i = 0; i < counts.once.size(); ++i) {
        const std::string reason = client::name_of(static_cast<Reason>(i));
        if (counts.warm_up[i] != counts.twice[i]) {
            throw Invalid("the same run exited " + std::to_string(counts.warm_up[i]) + " and then " +
                          std::to_string(counts.twice[i]) + " times by " + reason);
        }
        const auto more = static_cast<i64>(counts.twice[i] - counts.once[i]);
        const auto more_of_control = static_cast<i64>(counts.control_twice[i] - counts.control[i]);
        if (more < 0 || more_of_control < 0) {
            throw Invalid("a longer run exited less often than a shorter one by " + reason);
        }
        if (more != more_of_control) {
            const double rate = static_cast<double>(more - more_of_control) / static_cast<double>(operations);
            rates.by_reason[reason] = rate;
            rates.total += rate;
        }
    }
    return rates;
}

void expect_exits(const Row& row, Mode mode, const ExitRates& rates) {
    if (mode != Mode::shadow || !row.shadow_exits) {
        return;
    }
    const auto due = static_cast<double>(*row.shadow_exits);
    if (rates.total != due) {
        throw Invalid("an operation took " + std::to_string(rates.total) + " exits where " +
                      std::to_string(*row.shadow_exits) + " were due");
    }
}

} // namespace refhv::bench
