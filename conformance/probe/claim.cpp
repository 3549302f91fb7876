// SPDX-License-Identifier: MIT
#include "conformance/probe/claim.hpp"

namespace refhv::front {

bool ProbeClaim::has_next_rip() {
    constexpr u32 nrips = 1u << 3; // APM 3 E.4.9
    return (cpuid(hello(), 0x8000'000a, 0, 3) & nrips) != 0;
}

std::vector<machine::Kind> ProbeClaim::kinds(const Prober& prober) {
    std::vector<machine::Kind> out;
    for (const machine::Kind kind : machine::every_kind) {
        if (prober.offers(kind) && kind != machine::Kind::v86) {
            out.push_back(kind);
        }
    }
    return out;
}

void ProbeClaim::hold_rows(Prober& prober, std::vector<Row> rows, const char* section) {
    ASSERT_FALSE(rows.empty()) << "no row of the table is for this machine";
    if (on_svm()) {
        for (Row& row : rows) {
            for (abi::GuestState* const s : {&row.probe.state, &row.due.state}) {
                u32& rights = s->segment[abi::tr].rights;
                rights = rights == machine::busy_tss ? machine::available_tss : rights;
            }
        }
    }
    std::vector<Probe> probes;
    const Probe nothing("a guest that only stops", machine::Kind::paged32, {0x90});
    probes.push_back(nothing);
    for (const Row& row : rows) {
        probes.push_back(row.probe);
        if (const auto [first, end] = extent_of(row.due.slots); first != end) {
            probes.back().read_back.push_back({first, std::vector<u8>(end - first)});
        }
    }
    probes.push_back(nothing);
    const auto results = prober.run(probes);
    Differences differences(section);
    const bool vmx = on_vmx(), next_rip = has_next_rip();
    hold(differences, nothing.name, results.front(), runs(nothing, vmx), vmx, next_rip);
    for (usize i = 0; i < rows.size(); ++i) {
        hold(differences, rows[i].probe.name, results[i + 1], rows[i].due, vmx, next_rip);
        hold_slots(differences, rows[i].probe, results[i + 1], rows[i].due);
        hold_fields(differences, rows[i].probe, results[i + 1], rows[i].due);
    }
    hold(differences, nothing.name, results.back(), runs(nothing, vmx), vmx, next_rip);
    tried_ += rows.size();
    combinations(tried_);
}

} // namespace refhv::front
