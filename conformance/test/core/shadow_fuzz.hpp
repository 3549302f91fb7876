// SPDX-License-Identifier: MIT
// The shadow MMU's fuzzer: random page-table edits, accesses, invalidations and changes of control registers.
#pragma once

#include "conformance/test/core/shadow_pair.hpp"

#include <algorithm>

namespace refhv::shadow::testing {

class Fuzz : public GuestPair {
  public:
    using GuestPair::GuestPair;

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
            write_and_change_rights();
            break;
        case 13:
            run_one_instruction();
            break;
        default:
            check(tables_.any_address(), any_access());
        }
    }

  private:
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

    // STAC, CLAC, WRPKRU: they do not exit.
    void rights() {
        state_.rflags ^= random_() % 2 == 0 ? x86::rflags_bits::ac : 0;
        state_.pkru = random_() % 3 == 0 ? 0 : static_cast<u32>(random_() & random_());
        state_.pkru &= ~u32{3}; // key 0 for the rest
    }

    // What the supervisor's rights were when it wrote must not outlive them.
    void write_and_change_rights() {
        const u64 gva = tables_.any_address();
        check(gva, store_access);
        rights();
        check(gva, {.write = random_() % 2 == 0, .fetch = false, .user = random_() % 4 == 0});
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
        const u64 elsewhere = (gva & ~(r.page.size - 1)) | (random_() % r.page.size & ~u64{7});
        check(gva, any_access());
        check(elsewhere, any_access()); // a large page may be in two parts
        u64 fresh = tables_.any_entry(leaf.at) | (r.page.size > page_size ? pte::ps : 0);
        if (random_() % 2 == 0) { // a change of rights or flags only
            fresh = *reference_(leaf.at, leaf.bytes) ^ (random_() & (pte::rw | pte::us | pte::a | pte::d));
        }
        write(leaf.at, fresh);
        cpu_.invlpg(gva);
        // Elsewhere the old entry may still be in use, and hardware may remember it too: only this page is
        // certain.
        check(gva, any_access());
        check(gva, any_access());
        if (r.page.size > page_size) { // all of it
            check(elsewhere, any_access());
        }
        reload();
    }

    // INVLPG of one page forgets every higher entry, but a TLB may still hold other pages as they were at any
    // time since the last flush (SDM 3A 4.10.2.3: also pages that were never accessed). Nothing else may
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
};

} // namespace refhv::shadow::testing
