// SPDX-License-Identifier: MIT
#include "microbench/measure/record.hpp"

#include "microbench/measure/disturbances.hpp"
#include "microbench/measure/machine_record.hpp"
#include "refhv/front/events.hpp"
#include "refhv/front/file.hpp"
#include "refhv/front/verdicts.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

namespace refhv::bench {

using nlohmann::ordered_json;

namespace {

ordered_json number(double value) {
    if (!std::isfinite(value)) {
        return nullptr;
    }
    // Whole numbers stay whole in the file.
    return value == std::floor(value) && std::abs(value) < 1e15
               ? ordered_json(static_cast<std::int64_t>(value))
               : ordered_json(value);
}
ordered_json number(const std::optional<double>& value) {
    return value ? number(*value) : ordered_json();
}
ordered_json text(const std::string& value) {
    return value.empty() ? ordered_json() : ordered_json(value);
}

ordered_json summary(const std::optional<Summary>& s) {
    const auto field = [&](double Summary::*member) { return s ? number((*s).*member) : ordered_json(); };
    return {{"min", field(&Summary::min)}, {"p50", field(&Summary::p50)}, {"p90", field(&Summary::p90)},
            {"p99", field(&Summary::p99)}, {"max", field(&Summary::max)}, {"mad", field(&Summary::mad)}};
}

ordered_json benchmark(const Result& result, const client::TargetInfo& info, const front::Usual& usual) {
    const Measurement& m = result.measurement;
    const std::string_view name = result.row->name;
    ordered_json out{
        {"name", result.name()},
        {"family", name.substr(0, name.find('.'))},
        {"mode", client::name_of(result.mode)},
        {"unit", info.unit},
        {"verdict", front::name_of(m.verdict)},
        {"claims", claims_of(*result.row, result.mode)},
        {"n", m.n},
        {"samples", m.samples},
        {"stamp_cost", number(m.stamp_cost)},
        {"summary", summary(m.summary)},
        {"parts",
         {{"exit", number(m.parts.exit)},
          {"handler", number(m.parts.handler)},
          {"entry", number(m.parts.entry)}}},
        {"disturbed", m.disturbed},
        {"reason", text(m.reason)},
        {"slope", number(m.slope)},
        {"p50_interval", nullptr},
        {"stamped_p50", number(m.stamped_p50)},
        {"exits", nullptr},
        {"flags", m.flags},
        {"part_samples", nullptr},
        {"hypervisor_exit", m.hypervisor_exit ? ordered_json(*m.hypervisor_exit) : ordered_json()}};
    if (result.disturbances) {
        out["disturbances"] = to_json(*result.disturbances);
        if (!info.emulated) { // an emulator's clock keeps no rate
            for (std::string& flag : front::flags_of(*result.disturbances, usual)) {
                out["flags"].push_back(std::move(flag));
            }
        }
    }
    if (m.parts.between) {
        out["parts"]["between"] = number(m.parts.between);
    }
    if (m.p50_interval) {
        out["p50_interval"] = {number(m.p50_interval->low), number(m.p50_interval->high)};
    }
    if (m.exits) {
        out["exits"] = {{"reason", text(m.exits->reason)},
                        {"expected", m.exits->expected},
                        {"counted", m.exits->counted}};
    }
    if (m.exits_per_operation) {
        ordered_json reasons = ordered_json::object();
        for (const auto& [reason, rate] : m.exits_per_operation->by_reason) {
            reasons[reason] = number(rate);
        }
        out["exits_per_operation"] = {{"total", number(m.exits_per_operation->total)},
                                      {"by_reason", reasons}};
    }
    if (m.batch != 1 && !m.chase) {
        out["batch"] = m.batch;
    }
    if (m.part_samples) {
        out["part_samples"] = {{"exit", m.part_samples->exit},
                               {"handler", m.part_samples->handler},
                               {"entry", m.part_samples->entry}};
        if (!m.part_samples->between.empty()) {
            out["part_samples"]["between"] = m.part_samples->between;
        }
    }
    if (m.due) {
        out["due"] = {{"ticks", m.due->ticks}, {"step", m.due->step}, {"timer", m.due->timer}};
    }
    if (m.chase) {
        out["chase"] = {{"page_bytes", m.chase->page_bytes},
                        {"layout", m.chase->layout},
                        {"lines", m.chase->lines},
                        {"accesses", m.chase->accesses},
                        {"memory", m.chase->memory},
                        {"contiguous_groups", m.chase->contiguous_groups
                                                  ? ordered_json(*m.chase->contiguous_groups)
                                                  : ordered_json()},
                        {"walks_event", m.chase->walks_event},
                        {"walks_per_access", number(m.chase->walks_per_access)},
                        {"walks_missing", text(m.chase->walks_missing)}};
        if (m.chase->nested_page_bytes) {
            out["chase"]["nested_page_bytes"] = *m.chase->nested_page_bytes;
        }
    }
    return out;
}

ordered_json claim(const front::ClaimResult& c) {
    return {{"name", c.name},
            {"verdict", front::name_of(c.verdict)},
            {"section", text(c.section)},
            {"detail", text(c.detail)}};
}

std::string utc(std::chrono::system_clock::time_point when, const char* format) {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(when);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    char out[32];
    return {out, std::strftime(out, sizeof out, format, &parts)};
}

} // namespace

Results& Results::get() {
    static Results results;
    return results;
}

const Result& Results::put(Result result) {
    const auto same = std::find_if(results_.begin(), results_.end(), [&](const Result& r) {
        return r.row == result.row && r.mode == result.mode;
    });
    if (same != results_.end()) {
        *same = std::move(result);
        return *same;
    }
    return results_.emplace_back(std::move(result));
}

const Result* Results::find(const std::string& name) const {
    const auto hit =
        std::find_if(results_.begin(), results_.end(), [&](const Result& r) { return r.name() == name; });
    return hit == results_.end() ? nullptr : &*hit;
}

ordered_json make_record(std::chrono::system_clock::time_point started, const ordered_json& doctor,
                         const ordered_json& facts) {
    auto& session = front::Session::get();
    const auto& info = session.info();
    char unique[16];
    std::snprintf(unique, sizeof unique, "%08x", std::random_device{}());
    ordered_json record{{"schema_version", 1},
                        {"run_id", utc(started, "%Y%m%dT%H%M%SZ-") + info.name + "-" + unique},
                        {"started", utc(started, "%Y-%m-%dT%H:%M:%SZ")},
                        {"target",
                         {{"name", info.name},
                          {"kind", info.kind},
                          {"backend", info.backend},
                          {"emulated", info.emulated},
                          {"unit", info.unit},
                          {"counts_instructions", info.counts_instructions},
                          {"emulator", front::emulator_record(info.emulator)}}}};
    if (info.counts_instructions) {
        auto& proofs = record["target"]["tick_proofs"] = ordered_json::array();
        for (const auto& proof : session.tick_proofs()) {
            proofs.push_back({{"pairs", proof.pairs}, {"wrong", text(proof.wrong)}});
        }
    }
    const auto* greeting = session.greeting();
    record["machine"] =
        greeting != nullptr ? machine_record(*greeting, info.emulated || info.elsewhere) : ordered_json();
    record["environment"] = environment_record(info, facts);
    record["doctor"] = info.elsewhere ? ordered_json() : doctor;
    record["claims"] = ordered_json::array();
    for (const auto& c : front::Verdicts::get().all()) {
        record["claims"].push_back(claim(c));
    }
    record["disturbances"] = Watch::get().record();
    std::vector<front::Between> all;
    for (const auto& result : Results::get().all()) {
        if (result.disturbances) {
            all.push_back(*result.disturbances);
        }
    }
    const front::Usual usual = front::usual_of(all);
    record["benchmarks"] = ordered_json::array();
    for (const auto& result : Results::get().all()) {
        record["benchmarks"].push_back(benchmark(result, info, usual));
    }
    return record;
}

void write_record(const std::string& path, const ordered_json& record) {
    front::write_whole(path, record.dump(1, ' ', false, ordered_json::error_handler_t::replace) + '\n');
}

} // namespace refhv::bench
