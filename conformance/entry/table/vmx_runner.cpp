// SPDX-License-Identifier: MIT
#include "conformance/entry/table/vmx_runner.hpp"

#include <map>
#include <optional>

namespace refhv::front::vmx_entry {

namespace {

constexpr usize rows_a_request = 256, rows_a_base = 32;
constexpr u64 deadline = 200'000; // of a guest that waits

// Of those that must enter: what neither a HLT nor a deadline ends. That an interrupt ends HLT also where IF is
// 0 (SDM 3C 26.2) is another claim's.
[[nodiscard]] bool sleeps_for_good(const State& s, bool enters) {
    constexpr u64 hlt_exiting = 1u << 7;
    const bool injects = (s[event] & event_valid) != 0;
    const bool halts = (s[activity] == 1 && !injects) || (s[proc_controls] & hlt_exiting) == 0;
    return enters && (s[activity] == 3 || (s[activity] == 2 && !injects) ||
                      (halts && (s[rflags] & rflags_if) == 0));
}

void append(std::vector<abi::ProbeField>& fields, const Change& always, const Change& change) {
    const auto put = [&](const FieldValue& f) {
        fields.push_back({.field = f.field, .width = 8, .flags = 0, .value = f.value});
    };
    for (const FieldValue& f : always) {
        if (std::none_of(change.begin(), change.end(), [&](const FieldValue& c) { return c.field == f.field; })) {
            put(f);
        }
    }
    for (const FieldValue& f : change) {
        put(f);
    }
    fields.back().flags = abi::probe_enters;
}

class Runner {
  public:
    explicit Runner(Table table) : table_(table) { begin(); }

    std::vector<Tried> run() {
        const Machine machine = machine_of(Session::get().hello());
        std::vector<Tried> rows;
        for (Change& change : rows_of(table_, base_, machine, start_->pages)) {
            const State state = base_.with(change);
            auto broken = broken_rules(state, machine);
            if (!sleeps_for_good(state, broken.empty())) {
                rows.push_back({std::move(change), std::move(broken), {}, false});
            }
        }
        if (!broken_rules(base_, machine).empty()) {
            throw std::logic_error(std::string("the model refuses what ") + name_of_table(table_) +
                                   " starts from: " + info_of(broken_rules(base_, machine).front()).name);
        }
        const usize most = table_ == other_events ? 1 : rows_a_request;
        for (usize first = 0; first < rows.size(); first += most) {
            const usize count = std::min(most, rows.size() - first);
            attempt({rows.data() + first, count});
            if (died_ && table_ == other_events) { // one death is enough
                break;
            }
        }
        std::erase_if(rows, [](const Tried& row) { return !row.is_known(); }); // nor those never reached
        return rows;
    }

  private:
    void begin() {
        start_.emplace(Session::get().host(), base_of_table(table_));
        base_change_ = {{rip, start_->guest.state.rip}};
        std::vector<Tried> nothing;
        send(nothing); // the host's fields are written by a run
        base_ = start_->read();
    }

    // All at once, or where the target does not survive that one by one.
    void attempt(std::span<Tried> rows) {
        try {
            send(rows);
            return;
        } catch (const client::TargetMiss&) {
            if (rows.size() == 1) {
                rows.front().died = true;
                died_ = true;
                begin();
                return;
            }
        }
        begin();
        for (Tried& row : rows) {
            attempt({&row, 1});
            if (died_ && table_ == other_events) {
                return;
            }
        }
    }

    // The base state first, last and in between.
    void send(std::span<Tried> rows) {
        std::vector<abi::ProbeField> fields;
        std::vector<Tried*> order;
        const auto base = [&] {
            append(fields, start_->always, base_change_);
            order.push_back(nullptr);
        };
        base();
        for (usize i = 0; i < rows.size(); ++i) {
            append(fields, start_->always, rows[i].change);
            order.push_back(&rows[i]);
            if (i % rows_a_base == rows_a_base - 1 || i + 1 == rows.size()) {
                base();
            }
        }
        const auto results = start_->guest.probe(fields, deadline);
        if (results.size() != order.size()) {
            throw client::MalformedReply("entry_probes: results are missing");
        }
        for (usize i = 0; i < order.size(); ++i) {
            if (order[i] != nullptr) {
                order[i]->result = results[i];
            } else if (results[i].outcome != static_cast<u16>(abi::Outcome::exited)) {
                const u32 refusal = results[i].refusal + results[i].entry_failure;
                const Tried* before = i != 0 ? order[i - 1] : nullptr;
                throw BaseRefused(std::string("the state that ") + name_of_table(table_) +
                                  " starts from does not enter: outcome " +
                                  client::name_of(static_cast<abi::Outcome>(results[i].outcome)) + ", error " +
                                  std::to_string(refusal) +
                                  (before != nullptr ? ", last changed: " + name_of_field(before->change.front().field)
                                                     : std::string()));
            }
        }
    }

    Table table_;
    std::optional<Start> start_;
    Change base_change_;
    State base_;
    bool died_ = false;
};

} // namespace

const std::vector<Tried>& tried(Table table) {
    static std::map<Table, std::vector<Tried>> all;
    const auto at = all.find(table);
    return at != all.end() ? at->second : all.emplace(table, Runner(table).run()).first->second;
}

} // namespace refhv::front::vmx_entry
