// SPDX-License-Identifier: MIT
// Random page-table edits and accesses through the shadow MMU, against a walk of the guest's own tables.
#include "conformance/core/shadow_machine.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

namespace refhv::shadow::testing {
namespace {

// The guest: table pages whose entries are edited at random, data pages, and a part of the address space that
// maps all of memory and is never edited, through which the guest writes its tables.
class Fuzz {
  public:
    static constexpr u64 pages = 1024, random_tables = 8, linear_tables = 1 + 1 + 2; // PDPT, PD, two PTs
    static constexpr u64 first_table = guest_base, linear_pdpt = guest_base + random_tables * page_size;
    static constexpr u64 linear = u64{0xffff'8000'0000'0000};

    Fuzz(u32 seed, bool tracked, u32 table_pages)
        : random_(seed), subject_(pages), reference_(pages), cpu_(subject_, tracked, table_pages) {
        state_ = {.cr0 = 0x8001'0033,
                  .cr3 = first_table,
                  .cr4 = 0x20,
                  .efer = 0xd01,
                  .rflags = 2,
                  .pkru = 0,
                  .physical_bits = 40,
                  .has_1g_pages = true};
        const auto both = [&](u64 gpa, u64 v) {
            subject_.store(gpa, v);
            reference_.store(gpa, v);
        };
        constexpr u64 rights = pte::p | pte::rw;
        for (u64 root = 0; root < roots; ++root) {
            both(first_table + root * page_size + 256 * 8, linear_pdpt | rights);
        }
        both(linear_pdpt + 1 * 8, (linear_pdpt + page_size) | rights); // guest_base is the second GByte
        for (u64 pt = 0; pt < 2; ++pt) {
            const u64 table = linear_pdpt + (2 + pt) * page_size;
            both(linear_pdpt + page_size + pt * 8, table | rights);
            for (u64 i = 0; i < 512; ++i) {
                both(table + i * 8, (guest_base + (pt * 512 + i) * page_size) | rights);
            }
        }
        cpu_.reset(state_);
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
        default:
            check(any_address(), any_access());
        }
    }

    u64 checked = 0, succeeded = 0;
    [[nodiscard]] ShadowCpu& cpu() { return cpu_; }

  private:
    static constexpr u64 roots = 3;

    u64 any_address() {
        u64 gva = 0;
        for (unsigned level = 4; level >= 1; --level) {
            gva |= (random_() % 2) << (12 + 9 * (level - 1));
        }
        return gva | (random_() % page_size & ~u64{7});
    }

    Access any_access() {
        return {random_() % 2 == 0, random_() % 4 == 0 ? true : false, random_() % 2 == 0};
    }

    u64 any_entry() {
        if (random_() % 8 == 0) {
            return 0;
        }
        u64 e = random_() % 4 == 0 ? guest_base + (random_() % pages) * page_size
                                   : first_table + (random_() % random_tables) * page_size;
        e |= pte::p | (random_() & (pte::rw | pte::us | pte::a | pte::d));
        e |= random_() % 8 == 0 ? pte::nx : 0;
        e |= random_() % 6 == 0 ? pte::ps : 0;
        if ((e & pte::ps) != 0 && random_() % 4 != 0) {
            e &= ~u64{0x1f'f000}; // mostly a proper large page
        }
        e |= random_() % 64 == 0 ? u64{1} << 45 : 0; // reserved
        return e;
    }

    u64 any_slot() { return first_table + (random_() % random_tables) * page_size + (random_() % 2) * 8; }

    // The linear mapping and what leads there stay as they are.
    static bool is_random_entry(u64 gpa) {
        return gpa >= first_table && gpa < linear_pdpt && gpa % page_size < 16;
    }

    // A store of the guest, by way of its linear mapping.
    void write(u64 gpa, u64 value) {
        const auto r = cpu_.access(linear + gpa, {.write = true, .fetch = false, .user = false});
        ASSERT_TRUE(r.has_value());
        ASSERT_TRUE(r->ok) << std::hex << r->error;
        ASSERT_EQ(r->gpa, gpa);
        const Walk w = walk(reference_, state_, linear + gpa, {.write = true, .fetch = false, .user = false});
        ASSERT_TRUE(w.ok);
        subject_.store(gpa, value);
        reference_.store(gpa, value);
    }

    void reload() {
        state_.cr3 = first_table + (random_() % roots) * page_size;
        cpu_.load_cr3(state_.cr3);
    }

    void controls() {
        state_.cr0 ^= random_() % 2 != 0 ? x86::cr0::wp : 0;
        state_.cr4 ^= random_() % 4 == 0 ? x86::cr4::smep : 0;
        state_.cr4 ^= random_() % 4 == 0 ? x86::cr4::smap : 0;
        if ((state_.cr0 & x86::cr0::wp) == 0) { // the known gap, see mmu.hpp
            state_.cr4 &= ~x86::cr4::smap;
        }
        state_.efer ^= random_() % 8 == 0 ? x86::efer::nxe : 0;
        cpu_.set_controls(state_.cr0, state_.cr4, state_.efer);
    }

    void edit_and_flush() {
        for (u64 n = 1 + random_() % 4; n != 0; --n) {
            write(any_slot(), any_entry());
        }
        reload();
    }

    void edit_leaf_and_invlpg() {
        const u64 gva = any_address();
        PagingState all = state_; // whichever access finds the leaf
        all.cr0 &= ~x86::cr0::wp;
        const Tables copy = tables_now();
        const Walk w = walk(copy, all, gva, {});
        if (!w.ok || !is_random_entry(w.steps[w.leaf].gpa)) {
            return;
        }
        const u64 old = w.steps[w.leaf].entry;
        u64 fresh = any_entry();
        fresh = w.leaf > 1 ? fresh | pte::ps : fresh;
        if (random_() % 2 == 0) { // a change of rights or flags only
            fresh = old ^ (random_() & (pte::rw | pte::us | pte::a | pte::d));
        }
        write(w.steps[w.leaf].gpa, fresh);
        cpu_.invlpg(gva);
        // Elsewhere the old entry may still be in use, and hardware may remember it too: only this page is
        // certain.
        check(gva, any_access());
        check(gva, any_access());
        reload();
    }

    // INVLPG of one page forgets every higher entry, but a TLB may still hold other pages as they were at any
    // time since the last flush (SDM 3A 4.10.2.3: also pages that nobody has asked for). Nothing else may
    // come out.
    void edit_any_and_invlpg() {
        std::vector<Tables> history;
        for (u64 n = 1 + random_() % 3; n != 0; --n) {
            history.push_back(tables_now());
            write(any_slot(), any_entry());
        }
        cpu_.invlpg(any_address());
        for (u64 n = random_() % 3; n != 0; --n) {
            history.push_back(tables_now());
            write(any_slot(), any_entry());
        }
        history.push_back(tables_now());
        for (int i = 0; i < 8; ++i) {
            const u64 gva = any_address();
            Access a = any_access();
            a.write = a.write && !a.fetch;
            const auto got = cpu_.access(gva, a);
            ASSERT_TRUE(got.has_value()) << "an endless fault at " << std::hex << gva;
            bool known = false;
            for (const Tables& then : history) {
                known = known || outcome(then, gva, a) == *got;
            }
            ASSERT_TRUE(known || !got->ok)
                << std::hex << "gva " << gva << ": gpa " << got->gpa << " never was there";
        }
        reload();
        // Accessed and dirty flags depend on what was remembered.
        std::copy_n(subject_.bytes.begin(), (random_tables + linear_tables) * page_size,
                    reference_.bytes.begin());
    }

    // The edited tables as they were; a memory policy for walks that change nothing.
    struct Tables {
        const GuestRam& rest;
        std::vector<u8> bytes;
        [[nodiscard]] bool contains(u64 gpa, u64 size) const { return rest.contains(gpa, size); }
        [[nodiscard]] u64 load(u64 gpa) const {
            u64 v;
            if (gpa - first_table < bytes.size()) {
                std::memcpy(&v, &bytes[gpa - first_table], 8);
                return v;
            }
            return rest.load(gpa);
        }
        bool exchange(u64, u64, u64) const { return true; }
    };

    [[nodiscard]] Tables tables_now() const {
        return {reference_, {reference_.bytes.begin(), reference_.bytes.begin() + random_tables * page_size}};
    }

    [[nodiscard]] Outcome outcome(const Tables& then, u64 gva, Access a) const {
        const Walk w = walk(then, state_, gva, a);
        return w.ok ? Outcome{true, 0, w.gpa} : Outcome{false, w.error, 0};
    }

    // The guest reads, then writes a table through whatever page happens to map it.
    void store_by_any_way() {
        const u64 gva = (any_address() & ~u64{0xfff}) | (random_() % 2) * 8;
        check(gva, {.write = false, .fetch = false, .user = false});
        const Access store{.write = true, .fetch = false, .user = false};
        const Tables copy = tables_now();
        const Walk w = walk(copy, state_, gva, store);
        if (w.ok && is_random_entry(w.gpa)) {
            check(gva, store);
            const u64 value = any_entry();
            subject_.store(w.gpa, value);
            reference_.store(w.gpa, value);
            reload();
            check(any_address(), any_access());
        }
    }

    // What was not present needs no invalidation to become so.
    void make_present() {
        const u64 slot = any_slot();
        if ((reference_.load(slot) & pte::p) == 0) {
            write(slot, any_entry());
            for (int i = 0; i < 4; ++i) {
                check(any_address(), any_access());
            }
        }
    }

    void check(u64 gva, Access a) {
        a.write = a.write && !a.fetch;
        const auto got = cpu_.access(gva, a);
        ASSERT_TRUE(got.has_value()) << "an endless fault at " << std::hex << gva;
        const Walk w = walk(reference_, state_, gva, a);
        const Outcome due = w.ok ? Outcome{true, 0, w.gpa} : Outcome{false, w.error, 0};
        ASSERT_TRUE(*got == due) << std::hex << "gva " << gva
                                 << (a.write   ? " write"
                                     : a.fetch ? " fetch"
                                               : " read")
                                 << (a.user ? " user" : " supervisor") << ": got "
                                 << (got->ok ? "gpa " : "#PF ") << (got->ok ? got->gpa : got->error)
                                 << ", due " << (due.ok ? "gpa " : "#PF ") << (due.ok ? due.gpa : due.error);
        ++checked;
        succeeded += w.ok ? 1 : 0;
        for (unsigned level = w.leaf; w.ok && level <= 4; ++level) {
            ASSERT_EQ(subject_.load(w.steps[level].gpa), reference_.load(w.steps[level].gpa))
                << "A and D flags";
        }
    }

    std::mt19937_64 random_;
    GuestRam subject_, reference_;
    ShadowCpu cpu_;
    PagingState state_{};
};

struct Kind {
    const char* name;
    bool tracked;
    u32 tables;
};

class ShadowTest : public ::testing::TestWithParam<Kind> {};

TEST_P(ShadowTest, random_edits_and_accesses_agree_with_the_guests_own_tables) {
    const char* wanted = std::getenv("REFHV_SHADOW_STEPS");
    const u64 steps = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : 100'000;
    u64 checked = 0, succeeded = 0;
    for (u32 seed = 1; checked < steps; ++seed) {
        Fuzz fuzz(seed, GetParam().tracked, GetParam().tables);
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

INSTANTIATE_TEST_SUITE_P(Modes, ShadowTest,
                         ::testing::Values(Kind{"vtlb", false, 128}, Kind{"shadow", true, 128},
                                           Kind{"vtlb_short_of_tables", false, 9},
                                           Kind{"shadow_short_of_tables", true, 9}),
                         [](const auto& i) { return i.param.name; });

} // namespace
} // namespace refhv::shadow::testing
