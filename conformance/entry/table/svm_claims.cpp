// SPDX-License-Identifier: MIT
// APM 2 15.5.1 and 15.20, a claim a statement: VMCBs that break it, and nothing else, are refused. And a
// claim a table: what breaks nothing enters.
#include "conformance/entry/table/probes.hpp"
#include "conformance/entry/table/svm_rows.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

using namespace svm_entry;

namespace {

GUEST(guest_nop_hlt, "nop\n hlt")

struct Tried : ProbeRow {
    Change change;
    std::vector<Rule> broken; // by the model
};

[[nodiscard]] std::vector<abi::ProbeField> fields_of(const Change& change) {
    std::vector<abi::ProbeField> fields;
    for (const FieldValue& f : change) {
        fields.push_back({.field = f.field, .width = width_of(f.field), .flags = 0, .value = f.value});
    }
    return fields;
}

[[nodiscard]] Machine machine_of(const client::HelloInfo& hello) {
    const u32 extended_ebx = cpuid(hello, 7, 0, 1), extended_ecx = cpuid(hello, 7, 0, 2),
              one_ecx = cpuid(hello, 1, 0, 2), size = cpuid(hello, 0x8000'0008, 0, 0);
    const auto feature = [](u32 leaf, unsigned bit, unsigned in_cr4) {
        return u64{leaf >> bit & 1} << in_cr4;
    };
    return {.physical_bits = size & 0xff,
            .linear_bits = size >> 8 & 0xff,
            .cr4_features = feature(extended_ecx, 2, 11) | feature(extended_ecx, 16, 12) |
                            feature(extended_ebx, 0, 16) | feature(one_ecx, 17, 17) |
                            feature(one_ecx, 26, 18) | feature(extended_ebx, 7, 20) |
                            feature(extended_ebx, 20, 21) | feature(extended_ecx, 3, 22) |
                            feature(extended_ecx, 7, 23) | feature(extended_ecx, 31, 24),
            .next_rip = (cpuid(hello, 0x8000'000a, 0, 3) >> 3 & 1) != 0,
            .asids = cpuid(hello, 0x8000'000a, 0, 1)};
}

[[nodiscard]] std::vector<Tried> run(Table table) {
    std::optional<client::Guest> guest;
    const auto make = [&]() -> client::Guest& {
        guest.emplace(Session::get().host(),
                      client::Plan{.tag_policy = abi::TagPolicy::flushing, .exceptions = ~u32{4}}); // not NMI
        guest->load(guest_nop_hlt);
        return *guest;
    };
    BulkProbes probes(make(), make, fields_of({{rip, client::layout::code}}));
    probes.run_base();
    State base{};
    for (const u32 field : State::fields()) {
        base = base.with({{field, guest->read_field(field, width_of(field))}});
    }
    const Machine machine = machine_of(Session::get().hello());
    if (const auto broken = broken_rules(base, machine); !broken.empty()) {
        throw std::logic_error(std::string("the model refuses the unchanged state: ") +
                               name_of(broken.front()));
    }
    std::vector<Tried> rows;
    for (Change& change : rows_of(table, base, machine)) {
        Tried row;
        row.fields = fields_of(change);
        row.broken = broken_rules(base.with(change), machine);
        row.change = std::move(change);
        rows.push_back(std::move(row));
    }
    std::vector<ProbeRow*> order;
    order.reserve(rows.size());
    for (Tried& row : rows) {
        order.push_back(&row);
    }
    probes.run(order, table == last_of_all);
    std::erase_if(rows, [](const Tried& row) { return !row.is_known(); });
    return rows;
}

[[nodiscard]] const std::vector<Tried>& tried(Table table) {
    static TriedTables<Table, std::vector<Tried>> tables;
    return tables.of(table, run);
}

[[nodiscard]] std::string text_of(const Tried& row, const char* due) {
    std::ostringstream out;
    for (const FieldValue& f : row.change) {
        out << (out.tellp() != 0 ? ", " : "") << name_of_field(f.field) << " = " << std::hex << f.value
            << 'h';
    }
    out << ": due " << due << ", got "
        << (row.died           ? "the end of the target"
            : row.is_refused() ? "VMEXIT_INVALID"
                               : client::name_of(static_cast<abi::Reason>(row.result.reason)));
    if (row.result.host_changed != 0) {
        out << ", HostState bits changed: " << row.result.host_changed;
    }
    return out.str();
}

} // namespace

class EntrySvm : public Claim {
  protected:
    static constexpr u32 sturdy[] = {registers, controls, events, segments_of_any_kind};

    static void needs_raw_fields() {
        for (const abi::Permit item :
             {abi::Permit::interrupts, abi::Permit::world_switch, abi::Permit::permission_maps,
              abi::Permit::translations, abi::Permit::control_bits, abi::Permit::cache_control}) {
            needs(item);
        }
    }
    static void expect_refused(const std::function<bool(const Tried&)>& of, std::span<const u32> tables,
                               const std::string& section) {
        needs_raw_fields();
        u64 count = 0;
        Differences differences;
        for (const u32 table : tables) {
            for (const Tried& row : tried(static_cast<Table>(table))) {
                if (!of(row)) {
                    continue;
                }
                ++count;
                if (row.died || !row.is_refused() || row.result.entry_failure != 1 ||
                    row.result.host_changed != 0) {
                    differences.add(section + ": " + text_of(row, "VMEXIT_INVALID"));
                }
            }
        }
        combinations(count);
        if (count == 0) {
            GTEST_SKIP() << "no state of this CPU breaks it alone";
        }
    }
    static void expect_refused(Rule rule, const std::string& section) {
        static constexpr u32 fragile[] = {last_of_all};
        expect_refused([&](const Tried& row) { return row.broken.size() == 1 && row.broken.front() == rule; },
                       rule == Rule::long_mode_without_protection ? std::span<const u32>(fragile) : sturdy,
                       section);
    }
    static void expect_entered(Table table) {
        if (table != segments_of_any_kind) {
            needs_raw_fields();
        }
        u64 count = 0;
        Differences differences;
        for (const Tried& row : tried(table)) {
            if (row.broken.empty()) {
                ++count;
                if (!row.enters() || row.died || row.result.host_changed != 0) {
                    differences.add("APM 2 15.5.1: " + text_of(row, "an entry"));
                }
            }
        }
        combinations(count);
    }
    static void expect_several_refused() {
        static constexpr u32 tables[] = {registers, controls, events, segments_of_any_kind, mixtures};
        expect_refused(
            [](const Tried& row) {
                return row.broken.size() > 1 && !std::all_of(row.broken.begin(), row.broken.end(), is_lax);
            },
            tables, "APM 2 15.5.1");
    }
    // Rules of which a state that breaks them alone has entered; that is the finding of their own claims.
    static bool is_lax(Rule rule) {
        return std::any_of(std::begin(sturdy), std::end(sturdy), [&](u32 table) {
            const auto& rows = tried(static_cast<Table>(table));
            return std::any_of(rows.begin(), rows.end(), [&](const Tried& row) {
                return row.broken.size() == 1 && row.broken.front() == rule && row.enters();
            });
        });
    }
};

#define CLAIM(name, section, what)                                                                           \
    TEST_F(EntrySvm, name) {                                                                                 \
        claim({.apm = "APM 2 " section}, [&] { what; });                                                     \
    }
// Of these rules the last comes last: a subject may not survive it.
#define RULE(name, section) CLAIM(svm_##name, section, expect_refused(Rule::name, "APM 2 " section))
#include "conformance/entry/table/svm_rules.inc"
#undef RULE

CLAIM(svm_legal_registers, "15.5.1", expect_entered(registers))
CLAIM(svm_legal_controls, "15.5.1", expect_entered(controls))
CLAIM(svm_legal_events, "15.20", expect_entered(events))
CLAIM(svm_any_segment, "15.5.1", expect_entered(segments_of_any_kind))
CLAIM(svm_legal_mixtures, "15.5.1", expect_entered(mixtures))
CLAIM(svm_states_that_break_several_rules, "15.5.1, 15.20", expect_several_refused())
// Last: what a subject may not survive.
CLAIM(svm_paged_real_mode, "15.5.1, 15.19", expect_entered(last_of_all))
#undef CLAIM

} // namespace refhv::front
