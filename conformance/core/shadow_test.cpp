// SPDX-License-Identifier: MIT
// Random page-table edits and accesses through the shadow MMU, against a walk of the guest's own tables.
#include "conformance/core/shadow_guest.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace refhv::shadow::testing {
namespace {

struct Kind {
    const char* name;
    Paging paging;
    bool tracked;
    u32 tables;
};

constexpr Access store_access{.write = true, .fetch = false, .user = false};

class Fuzz {
  public:
    Fuzz(u32 seed, const Kind& kind)
        : random_(seed), tables_(kind.paging, random_), subject_(GuestTables::pages),
          reference_(GuestTables::pages), cpu_(subject_, kind.tracked, kind.tables),
          state_(tables_.first_state()) {
        tables_.build([&](u64 gpa, u64 entry) { put(gpa, entry); });
        EXPECT_TRUE(load_pdptes(state_));
        EXPECT_TRUE(cpu_.reset(state_));
    }

    void step() {
        switch (random_() % 20) {
        case 0:
            reload();
            break;
        case 1:
            controls();
            break;
        case 2:
        case 3:
        case 4:
            edit_and_flush();
            break;
        case 5:
        case 6:
            edit_leaf_and_invlpg();
            break;
        case 7:
            make_present();
            break;
        case 8:
        case 9:
            edit_any_and_invlpg();
            break;
        case 10:
        case 11:
            store_by_any_way();
            break;
        case 12:
            rights();
            break;
        case 13:
            run_one_instruction();
            break;
        default:
            check(tables_.any_address(), any_access());
        }
    }

    u64 checked = 0, succeeded = 0;

  private:
    // The tables as they were at some time.
    struct Tables {
        const GuestRam& rest;
        std::vector<u8> bytes;
        std::optional<u64> operator()(u64 gpa, unsigned width) const {
            if (gpa - guest_base >= bytes.size()) {
                return rest(gpa, width);
            }
            u64 v = 0;
            std::memcpy(&v, &bytes[gpa - guest_base], width);
            return v;
        }
    };

    static constexpr u64 table_bytes = (GuestTables::random_tables + GuestTables::fixed_tables) * page_size;

    Tables tables_now() const {
        return {reference_, {reference_.bytes.begin(), reference_.bytes.begin() + table_bytes}};
    }

    Access any_access() {
        Access a{random_() % 2 == 0, random_() % 4 == 0, random_() % 2 == 0};
        a.write = a.write && !a.fetch;
        return a;
    }

    // Both memories; an entry of the guest's own width.
    void put(u64 gpa, u64 entry) {
        if (tables_.wide()) {
            subject_.write<u64>(gpa, entry);
            reference_.write<u64>(gpa, entry);
        } else {
            subject_.write<u32>(gpa, static_cast<u32>(entry));
            reference_.write<u32>(gpa, static_cast<u32>(entry));
        }
    }

    template <class Read>
    Outcome outcome(const Read& read, u64 gva, Access a) const {
        return reference::judge(state_, reference::walk_tables(state_, gva, read), gva, a);
    }

    std::optional<Outcome> access(u64 gva, Access a) {
        return cpu_.access(gva, a, state_.rflags, state_.pkru);
    }

    // An access on the reference machine, with the flags that it sets.
    Outcome refer(u64 gva, Access a) {
        const reference::Result r = reference::walk_tables(state_, gva, reference_);
        const Outcome due = reference::judge(state_, r, gva, a);
        for (const reference::Entry& e : r.entries) {
            if (due.ok) {
                const u64 flags = pte::a | (e.maps_page && a.write ? pte::d : 0);
                reference_.write<u8>(e.at, static_cast<u8>(e.value | flags));
            }
        }
        return due;
    }

    // A store of the guest, by way of its linear mapping or without paging.
    void write(u64 gpa, u64 value) {
        const bool paging = (state_.cr0 & x86::cr0::pg) != 0;
        const u64 gva = paging ? tables_.linear() + gpa : gpa;
        const auto r = access(gva, store_access);
        ASSERT_TRUE(r.has_value());
        ASSERT_TRUE(r->ok) << std::hex << r->error;
        ASSERT_EQ(r->gpa, gpa);
        ASSERT_TRUE(refer(gva, store_access).ok);
        put(gpa, value);
    }

    // While tables are out of step: what was entered for the code must survive what is entered for the data.
    void run_one_instruction() {
        const bool paging = (state_.cr0 & x86::cr0::pg) != 0;
        const u64 code = (paging ? tables_.linear() : 0) + guest_base + random_() % 512 * page_size;
        Access a = any_access();
        a.user = a.fetch = false;
        const u64 slot = tables_.any_slot();
        write(slot, tables_.any_entry(slot));
        ASSERT_TRUE(cpu_.instruction(code, tables_.any_address(), a, state_.rflags, state_.pkru))
            << "neither goes on nor faults";
        take_flags_and_reload();
    }

    // Accessed and dirty flags depend on what was remembered.
    void take_flags_and_reload() {
        std::copy_n(subject_.bytes.begin(), table_bytes, reference_.bytes.begin());
        reload();
    }

    // What MOV to CR3 makes of the PDPTEs; false: #GP.
    bool load_pdptes(PagingState& s) const {
        if (tables_.is_long() || !tables_.wide() || (s.cr0 & x86::cr0::pg) == 0) {
            return true;
        }
        for (u64 i = 0; i < 4; ++i) {
            s.pdpte[i] = reference_.read<u64>((s.cr3 & ~u64{31}) + 8 * i);
            if (!reference::pdpte_is_good(s, s.pdpte[i])) {
                return false;
            }
        }
        return true;
    }

    void reload() {
        for (;;) { // until there is one without a #GP: stale translations must go
            PagingState next = state_;
            next.cr3 = tables_.any_cr3();
            const bool good = load_pdptes(next);
            ASSERT_EQ(cpu_.load_cr3(next.cr3), good) << "#GP for a PDPTE";
            if (good) {
                state_ = next;
                return;
            }
            for (u64 i = 0; i < 2; ++i) {
                const u64 slot = (next.cr3 & ~u64{0xfff}) + 8 * i;
                write(slot, tables_.any_entry(slot));
            }
        }
    }

    void controls() {
        using namespace x86;
        PagingState next = state_;
        next.cr0 ^= random_() % 2 != 0 ? cr0::wp : 0;
        next.cr4 ^= random_() % 4 == 0 ? cr4::smep : 0;
        next.cr4 ^= random_() % 4 == 0 ? cr4::smap : 0;
        next.cr4 ^= random_() % 4 == 0 ? cr4::pge : 0;
        if (tables_.wide()) {
            next.efer ^= random_() % 8 == 0 ? efer::nxe : 0;
        }
        if (tables_.is_long()) {
            next.cr4 ^= random_() % 4 == 0 ? cr4::pke : 0;
            next.cr4 ^= random_() % 4 == 0 ? cr4::pcide : 0;
        } else {
            next.cr4 ^= !tables_.wide() && random_() % 4 == 0 ? cr4::pse : 0;
            next.cr0 ^= random_() % 4 == 0 ? cr0::pg : 0;
        }
        const bool good = load_pdptes(next);
        ASSERT_EQ(cpu_.set_controls(next.cr0, next.cr4, next.efer), good) << "#GP for a PDPTE";
        state_ = good ? next : state_;
        rights();
    }

    // STAC, CLAC, WRPKRU: nobody hears of them.
    void rights() {
        state_.rflags ^= random_() % 2 == 0 ? x86::rflags_bits::ac : 0;
        state_.pkru = random_() % 3 == 0 ? 0 : static_cast<u32>(random_() & random_());
        state_.pkru &= ~u32{3}; // key 0 for the rest
    }

    void edit() {
        const u64 slot = tables_.any_slot();
        write(slot, tables_.any_entry(slot));
    }

    void edit_and_flush() {
        for (u64 n = 1 + random_() % 4; n != 0; --n) {
            edit();
        }
        reload();
    }

    void edit_leaf_and_invlpg() {
        const u64 gva = tables_.any_address();
        const reference::Result r = reference::walk_tables(state_, gva, reference_);
        if (!r.present || r.entries.empty() || !tables_.is_random_entry(r.entries.back().at)) {
            return;
        }
        const reference::Entry leaf = r.entries.back();
        u64 fresh = tables_.any_entry(leaf.at) | (r.page.size > page_size ? pte::ps : 0);
        if (random_() % 2 == 0) { // a change of rights or flags only
            fresh = leaf.value ^ (random_() & (pte::rw | pte::us | pte::a | pte::d));
        }
        write(leaf.at, fresh);
        cpu_.invlpg(gva);
        // Elsewhere the old entry may still be in use, and hardware may remember it too: only this page is
        // certain.
        check(gva, any_access());
        check(gva, any_access());
        if (r.page.size > page_size) { // all of it
            const u64 elsewhere = (gva & ~(r.page.size - 1)) | (random_() % r.page.size & ~u64{7});
            check(elsewhere, any_access());
        }
        reload();
    }

    // INVLPG of one page forgets every higher entry, but a TLB may still hold other pages as they were at any
    // time since the last flush (SDM 3A 4.10.2.3: also pages that nobody has asked for). Nothing else may
    // come out.
    void edit_any_and_invlpg() {
        std::vector<Tables> history;
        for (u64 n = 1 + random_() % 3; n != 0; --n) {
            history.push_back(tables_now());
            edit();
        }
        cpu_.invlpg(tables_.any_address());
        for (u64 n = random_() % 3; n != 0; --n) {
            history.push_back(tables_now());
            edit();
        }
        history.push_back(tables_now());
        for (int i = 0; i < 8; ++i) {
            const u64 gva = tables_.any_address();
            const Access a = any_access();
            const auto got = access(gva, a);
            ASSERT_TRUE(got.has_value()) << "an endless fault at " << std::hex << gva;
            bool known = false;
            for (const Tables& then : history) {
                known = known || outcome(then, gva, a) == *got;
            }
            ASSERT_TRUE(known || !got->ok)
                << std::hex << "gva " << gva << ": gpa " << got->gpa << " never was there";
        }
        take_flags_and_reload();
    }

    // A store to a table through whatever happens to map it.
    void store_by_any_way() {
        const u64 gva = (tables_.any_address() & ~u64{0xfff}) | (random_() % 2) * tables_.entry_bytes();
        check(gva, {.write = false, .fetch = false, .user = false});
        const Outcome w = outcome(reference_, gva, store_access);
        if (w.ok && tables_.is_random_entry(w.gpa)) {
            check(gva, store_access);
            put(w.gpa, tables_.any_entry(w.gpa));
            reload();
            check(tables_.any_address(), any_access());
        }
    }

    // What was not present needs no invalidation to become so.
    void make_present() {
        const u64 slot = tables_.any_slot();
        const bool pdpte = tables_.first_state().paging() == Paging::pae &&
                           slot < GuestTables::first_table + GuestTables::roots * page_size;
        if ((*reference_(slot, tables_.entry_bytes()) & pte::p) == 0 && !pdpte) {
            write(slot, tables_.any_entry(slot));
            for (int i = 0; i < 4; ++i) {
                check(tables_.any_address(), any_access());
            }
        }
    }

    void check(u64 gva, Access a) {
        const auto got = access(gva, a);
        ASSERT_TRUE(got.has_value()) << "an endless fault, or a flag unset, at " << std::hex << gva;
        const Outcome due = refer(gva, a);
        ASSERT_TRUE(*got == due) << std::hex << "gva " << gva
                                 << (a.write   ? " write"
                                     : a.fetch ? " fetch"
                                               : " read")
                                 << (a.user ? " user" : " supervisor") << ": got "
                                 << (got->ok ? "gpa " : "#PF ") << (got->ok ? got->gpa : got->error)
                                 << ", due " << (due.ok ? "gpa " : "#PF ") << (due.ok ? due.gpa : due.error)
                                 << ", CR0 " << state_.cr0 << " CR4 " << state_.cr4;
        ++checked;
        succeeded += due.ok ? 1 : 0;
        ASSERT_EQ(std::memcmp(subject_.bytes.data(), reference_.bytes.data(), table_bytes), 0)
            << "A and D flags";
    }

    std::mt19937_64 random_;
    GuestTables tables_;
    GuestRam subject_, reference_;
    ShadowCpu cpu_;
    PagingState state_;
};

class ShadowTest : public ::testing::TestWithParam<Kind> {};

TEST_P(ShadowTest, random_edits_and_accesses_agree_with_the_guests_own_tables) {
    const char* wanted = std::getenv("REFHV_SHADOW_STEPS");
    const u64 steps = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : 100'000;
    u64 checked = 0, succeeded = 0;
    for (u32 seed = 1; checked < steps; ++seed) {
        Fuzz fuzz(seed, GetParam());
        for (u64 i = 0; i < 2000; ++i) {
            fuzz.step();
            if (HasFatalFailure()) {
                FAIL() << "seed " << seed << " step " << i;
            }
        }
        checked += fuzz.checked;
        succeeded += fuzz.succeeded;
    }
    RecordProperty("checked", std::to_string(checked));
    RecordProperty("succeeded", std::to_string(succeeded));
    EXPECT_GT(succeeded, checked / 20) << "too few accesses find a page: the test says little";
}

constexpr Kind of(Paging paging, bool tracked, const char* name, u32 tables = 128) {
    return {name, paging, tracked, tables};
}

INSTANTIATE_TEST_SUITE_P(
    Modes, ShadowTest,
    ::testing::Values(of(Paging::level4, false, "vtlb_4_level"), of(Paging::level4, true, "shadow_4_level"),
                      of(Paging::level5, false, "vtlb_5_level"), of(Paging::level5, true, "shadow_5_level"),
                      of(Paging::pae, false, "vtlb_pae"), of(Paging::pae, true, "shadow_pae"),
                      of(Paging::bits32, false, "vtlb_32_bit"), of(Paging::bits32, true, "shadow_32_bit"),
                      of(Paging::level4, false, "vtlb_4_level_short_of_tables", 9),
                      of(Paging::level4, true, "shadow_4_level_short_of_tables", 9),
                      of(Paging::level5, true, "shadow_5_level_short_of_tables", 10),
                      of(Paging::pae, true, "shadow_pae_short_of_tables", 6),
                      of(Paging::bits32, false, "vtlb_32_bit_short_of_tables", 6),
                      of(Paging::bits32, true, "shadow_32_bit_short_of_tables", 6)),
    [](const auto& i) { return i.param.name; });

} // namespace
} // namespace refhv::shadow::testing
