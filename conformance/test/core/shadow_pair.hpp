// SPDX-License-Identifier: MIT
// The same guest twice: on the shadow MMU with the simulated CPU, and on an oracle that walks the guest's own
// tables at every access. Failures are GoogleTest's.
#pragma once

#include "conformance/test/core/shadow_guest.hpp"

#include <gtest/gtest.h>

namespace refhv::shadow::testing {

struct Kind {
    const char* name;
    Paging paging;
    bool tracked;
    u32 tables;
};

inline constexpr Access store_access{.write = true, .fetch = false, .user = false};

class GuestPair {
  public:
    GuestPair(u32 seed, const Kind& kind)
        : random_(seed), tables_(kind.paging, random_), subject_(GuestTables::pages),
          reference_(GuestTables::pages), cpu_(subject_, kind.tracked, kind.tables),
          state_(tables_.first_state()) {
        tables_.build([&](u64 gpa, u64 entry) { put(gpa, entry); });
        EXPECT_TRUE(load_pdptes(state_));
        EXPECT_TRUE(cpu_.reset(state_));
    }

    u64 checked = 0, succeeded = 0;

  protected:
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

} // namespace refhv::shadow::testing
