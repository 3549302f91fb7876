// SPDX-License-Identifier: MIT
#include "conformance/entry/table/probes.hpp"

namespace refhv::front {

namespace {

constexpr usize rows_a_request = 256, rows_a_base = 32;
constexpr u64 deadline = 20'000; // TSC ticks, of a guest that waits

} // namespace

void BulkProbes::run(std::span<ProbeRow* const> rows, bool one_by_one) {
    const usize most = one_by_one ? 1 : rows_a_request;
    for (usize first = 0; first < rows.size(); first += most) {
        const auto some = rows.subspan(first, std::min(most, rows.size() - first));
        attempt(some);
        if (one_by_one && some.front()->died) {
            return;
        }
    }
}

// All at once, or where the target does not survive that one by one.
void BulkProbes::attempt(std::span<ProbeRow* const> rows) {
    try {
        send(rows);
        return;
    } catch (const client::TargetMiss&) {
        guest_ = &make_();
        if (rows.size() == 1) {
            rows.front()->died = true;
            return;
        }
    }
    for (ProbeRow* const& row : rows) {
        attempt({&row, 1});
    }
}

// The base state first, last and in between.
void BulkProbes::send(std::span<ProbeRow* const> rows) {
    std::vector<abi::ProbeField> fields;
    std::vector<ProbeRow*> order;
    const auto put = [&](const std::vector<abi::ProbeField>& probe, ProbeRow* row) {
        fields.insert(fields.end(), probe.begin(), probe.end());
        fields.back().flags = abi::probe_enters;
        order.push_back(row);
    };
    put(base_, nullptr);
    for (usize i = 0; i < rows.size(); ++i) {
        put(rows[i]->fields, rows[i]);
        if (i % rows_a_base == rows_a_base - 1 || i + 1 == rows.size()) {
            put(base_, nullptr);
        }
    }
    const auto results = guest_->probe(fields, deadline);
    if (results.size() != order.size()) {
        throw client::MalformedReply("entry_probes: results are missing");
    }
    for (usize i = 0; i < order.size(); ++i) {
        if (order[i] != nullptr) {
            order[i]->result = results[i];
        } else if (results[i].outcome != static_cast<u16>(abi::Outcome::exited)) {
            const u32 field = i != 0 && order[i - 1] != nullptr ? order[i - 1]->fields.front().field : 0;
            throw BaseRefused(std::string("the unchanged state does not enter: ") +
                              client::name_of(static_cast<abi::Outcome>(results[i].outcome)) + ", error " +
                              std::to_string(results[i].refusal + results[i].entry_failure) +
                              "; field changed before it: " + std::to_string(field));
        }
    }
}

} // namespace refhv::front
