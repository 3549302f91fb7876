// SPDX-License-Identifier: MIT
// SDM 3C 27.2 and 27.3.1, a claim a statement: states that break it, and nothing else, are refused as the
// manual has it. And a claim a table: what breaks nothing enters.
#include "conformance/entry/table/vmx_runner.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

using namespace vmx_entry;

namespace {

[[nodiscard]] std::string text_of(const Change& change) {
    std::ostringstream out;
    for (const FieldValue& f : change) {
        out << (out.tellp() != 0 ? ", " : "") << name_of_field(f.field) << " = " << std::hex << f.value
            << 'h';
    }
    return out.str();
}

[[nodiscard]] std::string due_text(Kind kind) {
    constexpr const char* texts[] = {"error 7",
                                     "error 8",
                                     "error 7 or 8",
                                     "reason 33, qualification 0",
                                     "reason 33, qualification 2",
                                     "reason 33, qualification 4"};
    return texts[static_cast<usize>(kind)];
}

[[nodiscard]] std::string got_text(const Tried& row) {
    if (row.died) {
        return "the target died";
    }
    const abi::ProbeResult& r = row.result;
    const std::string changed =
        r.host_changed != 0 ? ", host state changed " + std::to_string(r.host_changed) : "";
    if (row.enters()) {
        return std::string("entered, ") + client::name_of(static_cast<abi::Reason>(r.reason)) + changed;
    }
    return (r.refusal != 0 ? "error " + std::to_string(r.refusal)
                           : "reason " + std::to_string(r.entry_failure) + ", qualification " +
                                 std::to_string(r.qualification)) +
           changed;
}

// Rows that give an exit other host state to load, or less of it; as far as the record of a run knows it,
// which is not CET state nor PKRS.
[[nodiscard]] bool is_about_the_host(const Tried& row) {
    return std::any_of(row.change.begin(), row.change.end(), [](const FieldValue& f) {
        constexpr u32 host_state = 3; // type of a field, bits 11:10 of its encoding (SDM 3C 25.11.2)
        constexpr u64 loads = exit_host_64 | exit_load_pat | exit_load_efer;
        const bool known = f.field != host_pkrs && f.field < host_s_cet;
        return f.field == exit_controls ? (f.value & loads) != loads
                                        : known && (f.field >> 10 & 3) == host_state;
    });
}

[[nodiscard]] bool is_refused(const Tried& row, Kind kind) {
    const abi::ProbeResult& r = row.result;
    if (row.died || row.enters() || r.host_changed != 0) {
        return false;
    }
    const auto guest_state = [&](u64 qualification) {
        return r.refusal == 0 && r.entry_failure == 33 && r.raw_reason == (1u << 31 | 33u) &&
               r.qualification == qualification;
    };
    const bool no_exit = r.entry_failure == 0;
    switch (kind) {
    case Kind::control:
        return no_exit && r.refusal == 7;
    case Kind::host:
        return no_exit && r.refusal == 8;
    case Kind::either:
        return no_exit && (r.refusal == 7 || r.refusal == 8);
    case Kind::guest:
        return guest_state(0);
    case Kind::pdpte:
        return guest_state(2);
    case Kind::link:
        return guest_state(4);
    }
    return false;
}

} // namespace

class EntryVmx : public Claim {
  protected:
    static void each(u32 tables, const std::function<void(Table, const Tried&)>& f) {
        const bool unrestricted = machine_of(hello()).proc2.offers(proc2_unrestricted);
        for (u32 bit = 1; bit < end_of_tables; bit <<= 1) {
            const auto table = static_cast<Table>(bit);
            const Base base = (tables & bit) != 0 ? base_of_table(table) : Base::long_mode;
            const bool needs_it = base == Base::unrestricted_pae || base == Base::real_mode;
            if ((tables & bit) == 0 || (needs_it && !unrestricted)) {
                continue;
            }
            for (const Tried& row : tried(table)) {
                f(table, row);
            }
        }
    }
    // What these tables write beside the guest's segments, which need no permission.
    static void needs_raw_fields(u32 tables) {
        constexpr u32 free = segments | rights | virtual_8086 | pae | unrestricted_32 | rings;
        if ((tables & ~free) == 0) {
            return;
        }
        for (const abi::Permit item :
             {abi::Permit::interrupts, abi::Permit::world_switch, abi::Permit::host_fields,
              abi::Permit::physical_addresses, abi::Permit::translations, abi::Permit::msr_lists,
              abi::Permit::permission_maps, abi::Permit::deaf_guests, abi::Permit::control_bits}) {
            needs(item);
        }
    }
    static void expect_refused(Rule rule, u32 tables) {
        needs_raw_fields(tables);
        const RuleInfo& info = info_of(rule);
        u64 count = 0;
        Differences differences;
        each(tables, [&](Table, const Tried& row) {
            if (row.broken.size() != 1 || row.broken.front() != rule) {
                return;
            }
            ++count;
            if (!is_refused(row, info.kind)) {
                differences.add(std::string("SDM 3C ") + info.section + ": " + text_of(row.change) +
                                ": due " + due_text(info.kind) + ", got " + got_text(row));
            }
        });
        combinations(count);
        if (count == 0) {
            GTEST_SKIP() << "no state of this CPU breaks it alone";
        }
    }
    // Rules of which a state that breaks them alone has entered; that is the finding of their own claims.
    static std::vector<bool> lax_rules(u32 tables) {
        std::vector<bool> lax(static_cast<usize>(Rule::count_));
        each(tables, [&](Table, const Tried& row) {
            if (row.broken.size() == 1 && row.enters()) {
                lax[static_cast<usize>(row.broken.front())] = true;
            }
        });
        return lax;
    }
    // States that break at least so many, whichever.
    static void expect_others_refused(u32 tables, usize least = 1) {
        needs_raw_fields(tables);
        u64 count = 0;
        Differences differences;
        const auto lax = least > 1 ? lax_rules(tables) : std::vector<bool>(static_cast<usize>(Rule::count_));
        each(tables, [&](Table, const Tried& row) {
            std::vector<Rule> held = row.broken; // as far as the subject holds them at all
            std::erase_if(held, [&](Rule rule) { return lax[static_cast<usize>(rule)]; });
            if (row.broken.size() < least || held.empty()) {
                return;
            }
            ++count;
            const auto is_early = [](Rule rule) { return info_of(rule).kind < Kind::guest; };
            const bool early = std::any_of(held.begin(), held.end(), is_early);
            const bool refused = std::any_of(held.begin(), held.end(), [&](Rule rule) {
                return is_early(rule) == early && is_refused(row, info_of(rule).kind);
            });
            if (!refused) {
                std::string rules;
                for (const Rule rule : row.broken) {
                    rules += std::string(rules.empty() ? "" : ", ") + info_of(rule).name;
                }
                differences.add(text_of(row.change) + ": breaks " + rules + "; got " + got_text(row));
            }
        });
        combinations(count);
        if (count == 0) {
            GTEST_SKIP() << "this CPU has no such state";
        }
    }
    static void expect_entered(u32 tables) {
        needs_raw_fields(tables);
        u64 count = 0;
        Differences differences;
        each(tables, [&](Table, const Tried& row) {
            if (!row.broken.empty()) {
                return;
            }
            ++count;
            if (row.died || !row.enters() || (row.result.host_changed != 0 && !is_about_the_host(row))) {
                differences.add("SDM 3C 27.2, 27.3.1: " + text_of(row.change) + ": legal, got " +
                                got_text(row));
            }
        });
        combinations(count);
        if (count == 0) {
            GTEST_SKIP() << "this CPU has no such state";
        }
    }
};

#define CLAIM(name, section, what)                                                                           \
    TEST_F(EntryVmx, name) {                                                                                 \
        claim({.sdm = "SDM 3C " section}, [&] { what; });                                                    \
    }
#define RULE(name, kind, section, where) CLAIM(vmx_##name, section, expect_refused(Rule::name, where))
#include "conformance/entry/table/vmx_rules.inc"
#undef RULE

#define LEGAL(table, section) CLAIM(vmx_legal_##table, section, expect_entered(vmx_entry::table))
LEGAL(controls, "27.2.1")
LEGAL(addresses, "27.2.1")
LEGAL(combinations, "27.2.1.1")
LEGAL(events, "27.2.1.3, 27.3.1.5")
LEGAL(events_real, "27.2.1.3")
LEGAL(host, "27.2.2, 27.2.3")
LEGAL(registers, "27.3.1.1, 27.3.1.4")
LEGAL(segments, "27.3.1.2, 27.3.1.3")
LEGAL(rights_64, "27.3.1.2")
LEGAL(rights_32, "27.3.1.2")
LEGAL(protected_mode, "27.3.1")
LEGAL(unrestricted_32, "27.3.1.2")
LEGAL(virtual_8086, "27.3.1.2")
LEGAL(real, "27.3.1")
CLAIM(vmx_legal_rings_of_an_unrestricted_guest, "27.3.1.2", expect_entered(rings | rings_real))
LEGAL(non_register, "27.3.1.5")
LEGAL(pae, "27.3.1.6")
LEGAL(cet, "27.2.2, 27.3.1.1, 27.3.1.4")
LEGAL(shadow_stacks, "27.3.1.4")
LEGAL(cet_32, "27.3.1.1, 27.3.1.4")
LEGAL(keys, "27.2.2, 27.3.1.1")
LEGAL(tertiary, "27.2.1.1")
LEGAL(mixtures, "27.2, 27.3.1")
#undef LEGAL

// Controls and the host's state are checked before the guest's (27.3): one error or the other, never a state
// of the guest where these are wrong.
CLAIM(vmx_states_that_break_several_rules, "27.2, 27.3.1", expect_others_refused(sturdy_tables, 2))

// Last: an emulator may not survive what type 7 does.
CLAIM(vmx_legal_other_events, "27.2.1.3", expect_entered(other_events))
CLAIM(vmx_illegal_other_events, "27.2.1.3, 27.3.1.5", expect_others_refused(other_events))

#undef CLAIM

} // namespace refhv::front
