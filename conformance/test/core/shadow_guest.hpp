// SPDX-License-Identifier: MIT
// A guest for the shadow MMU's fuzzer, in every paging mode: table pages whose entries are edited at random,
// data pages, and a part of the address space that maps all of memory and is never edited, through which the
// guest writes its tables.
#pragma once

#include "conformance/test/core/shadow_machine.hpp"

#include <random>

namespace refhv::shadow::testing {

class GuestTables {
  public:
    static constexpr u64 pages = 1024, random_tables = 8, roots = 3;
    static constexpr u64 first_table = guest_base, first_fixed = guest_base + random_tables * page_size;
    static constexpr u64 fixed_tables = 5;

    GuestTables(Paging paging, std::mt19937_64& random)
        : paging_(paging), random_(random), amd_(random() % 2 == 0) {}

    [[nodiscard]] bool wide() const { return paging_ != Paging::bits32; } // 64-bit entries
    [[nodiscard]] bool is_long() const { return paging_ == Paging::level4 || paging_ == Paging::level5; }
    [[nodiscard]] unsigned entry_bytes() const { return wide() ? 8 : 4; }
    // Where guest-physical address 0 would be mapped.
    [[nodiscard]] u64 linear() const {
        switch (paging_) {
        case Paging::level5:
            return 0xff00'0000'0000'0000;
        case Paging::level4:
            return 0xffff'8000'0000'0000;
        default:
            return 0xc000'0000 - guest_base;
        }
    }

    [[nodiscard]] PagingState first_state() const {
        return {.cr0 = 0x8001'0033,
                .cr3 = first_table,
                .cr4 = wide() ? (paging_ == Paging::level5 ? 0x1020u : 0x20u) : 0x10u,
                .efer = is_long() ? 0xd01u
                        : wide()  ? 0x800u
                                  : 0u,
                .rflags = 2,
                .pdpte = {},
                .pkru = 0,
                .physical_bits = 40,
                .has_1g_pages = true,
                .has_pse36 = true,
                .amd = amd_};
    }

    // Calls store(gpa, entry) for every entry that leads to all of memory.
    template <class F>
    void build(F store) const {
        constexpr u64 rights = pte::p | pte::rw;
        u64 next = first_fixed; // from here on the tables that no step edits
        if (!wide()) {
            for (u64 root = 0; root < roots; ++root) {
                store(first_table + root * page_size + 768 * 4, next | rights);
            }
            fill(next, store);
            return;
        }
        // The entry of each root, then one table a level down to the page directory.
        const unsigned levels = paging_ == Paging::level5 ? 5 : is_long() ? 4 : 3;
        for (u64 root = 0; root < roots; ++root) {
            store(first_table + root * page_size + (is_long() ? 256 : 3) * 8,
                  next | (is_long() ? rights : pte::p));
        }
        for (unsigned level = levels - 1; level > 2; --level, next += page_size) {
            const u64 index = level == 3 ? 1 : 0; // guest_base is the second GByte
            store(next + index * 8, (next + page_size) | rights);
        }
        store(next, (next + page_size) | rights);
        store(next + 8, (next + 2 * page_size) | rights);
        fill(next + page_size, store);
    }

    // An address under the tables that are edited.
    u64 any_address() {
        const u64 low = random_() % page_size & ~u64{7};
        if (!wide()) {
            return any_index() << 22 | any_index() << 12 | low;
        }
        u64 gva = low;
        const unsigned top = paging_ == Paging::level5 ? 5 : is_long() ? 4 : 3;
        for (unsigned level = 1; level <= top; ++level) {
            gva |= any_index() << (12 + 9 * (level - 1));
        }
        return gva;
    }

    u64 any_slot() {
        return first_table + random_() % random_tables * page_size + any_index() * entry_bytes();
    }

    // The linear mapping and what leads there stay as they are.
    [[nodiscard]] bool is_random_entry(u64 gpa) const {
        const u64 index = gpa % page_size / entry_bytes();
        return gpa >= first_table && gpa < first_fixed &&
               (index < 2 || (!wide() && (index & ~u64{1}) == 512));
    }

    u64 any_cr3() {
        const u64 ignored = random_() % 4 == 0 ? random_() & (is_long() ? 0xfff : 0x18) : 0;
        return (first_table + random_() % roots * page_size) | ignored;
    }

    // For the slot at gpa.
    u64 any_entry(u64 gpa) {
        if (random_() % 8 == 0) {
            return 0;
        }
        u64 e = random_() % 4 == 0 ? guest_base + random_() % pages * page_size
                                   : first_table + random_() % random_tables * page_size;
        e |= pte::p;
        if (paging_ == Paging::pae && gpa < first_table + roots * page_size && random_() % 8 != 0) {
            return e; // mostly a PDPTE that CR3 may load
        }
        e |= random_() & (pte::rw | pte::us | pte::a | pte::d);
        e |= random_() % 8 == 0 ? pte::g : 0;
        e |= random_() % 6 == 0 ? pte::ps : 0;
        if ((e & pte::ps) != 0 && random_() % 4 != 0) { // mostly a proper large page
            e &= wide() ? ~u64{0x1f'f000} : ~u64{0x3f'f000};
        }
        if (wide()) {
            e |= random_() % 8 == 0 ? pte::nx : 0;
            e |= random_() % 64 == 0 ? u64{1} << 45 : 0; // reserved
            e |= is_long() && random_() % 2 == 0 ? random_() % 16 << pte::key_shift : 0;
        }
        return e;
    }

  private:
    u64 any_index() { return (random_() % 2) | (!wide() && random_() % 2 == 0 ? 512 : 0); }

    // The page tables of the linear mapping.
    template <class F>
    void fill(u64 table, F store) const {
        for (u64 i = 0; i < pages; ++i) {
            store(table + i * entry_bytes(), (guest_base + i * page_size) | pte::p | pte::rw);
        }
    }

    Paging paging_;
    std::mt19937_64& random_;
    bool amd_;
};

} // namespace refhv::shadow::testing
