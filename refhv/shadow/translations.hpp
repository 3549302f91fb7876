// SPDX-License-Identifier: MIT
// Shadow translations: which shadow tables there are for the guest's, what their entries say, and when they
// are compared with the guest's anew. mmu.hpp explains the two ways, tracked and untracked.
#pragma once

#include "refhv/shadow/leaf_rules.hpp"
#include "refhv/shadow/table_set.hpp"

namespace refhv::shadow {

// Follows `state`, which is its owner's.
template <class Memory, class Tables>
class Translations {
  public:
    Translations(Memory& memory, Tables& tables, Pool& pool, const PagingState& state)
        : memory_(memory), set_(memory, tables, pool), state_(state) {}

    void set_tracked_mode(bool on) { tracked_mode_ = on; }
    [[nodiscard]] bool tracked() const {
        return tracked_mode_ && state_.wp() && state_.paging() != Paging::none;
    }
    [[nodiscard]] u64 root() const { return set_.address_of(root_); }
    [[nodiscard]] bool take_flush() { return set_.take_flush(); }

    // Forgets everything.
    void begin_anew() {
        set_.clear();
        (void)set_root();
    }

    // CR3 is another, or the same anew: every table that the guest may have written is compared and watched
    // again.
    void change_root() {
        refresh(1);
        set_.set_all_in_step();
        set_.want_flush();
        if (!set_root() || set_.overrun()) {
            begin_anew();
        }
    }

    // Whatever the CPU may not remember after an INVLPG of this address.
    void invalidate(u64 gva) {
        u32 table = root_;
        for (unsigned level = state_.shadow_levels();; --level) {
            const u64 slot = set_.slot_of(table, gva, level);
            drop_other_half(slot, level);
            const u64 entry = set_.load(slot);
            if ((entry & pte::p) == 0) {
                break;
            }
            if (level == 1 || (entry & (pte::ps | fraction)) != 0) {
                set_.drop_entry(slot, level);
                break;
            }
            table = set_.child_at(entry);
        }
        refresh(2); // INVLPG forgets every cached higher entry (SDM 3A 4.10.4.1)
        set_.want_flush();
    }

    // A write to this guest page is about to succeed.
    void allow_write(u64 page) {
        if (tracked() && !set_.release_tables_at(page)) {
            begin_anew();
        }
    }

    // Makes the tables hold what the walk found. false: no room. `changed` is set if they did not already.
    [[nodiscard]] bool install(u64 gva, Access access, const Walk& w, bool& changed) {
        if (root_ == nil) {
            return false;
        }
        // No TLB can hold what lies behind an entry that was not there: nothing stale may show through a new
        // one.
        if (tracked() && set_.any_unsync() && !is_linked(gva, w)) {
            refresh(1);
        }
        u32 table = root_;
        for (unsigned level = state_.shadow_levels();; --level) {
            const u64 slot = set_.slot_of(table, gva, level);
            const u64 size = x86::page_bytes<ShadowFormat>(level);
            if (level == 1 || (level <= w.level && can_be_large(w.gpa, level))) {
                const u64 gpa = w.gpa & ~(size - 1), guest = w.steps[w.level].entry;
                changed |= set_.set_leaf(
                    slot, level, gpa,
                    tracked() ? leaf_entry(gpa, level, guest, w.level)
                              : leaf_base(state_, memory_.to_physical(gpa), level, guest, w.level) |
                                    tlb_rights(state_, w, access));
                return true;
            }
            const u32 child = child_for(gva, level, w);
            if (child == nil || set_.overrun()) {
                return false;
            }
            // The rights of a split page, and of everything in the software TLB, stand in the leaves.
            const bool above = level > w.level;
            const u64 rights = tracked() && above ? w.steps[level].entry & table_rights : pte::rw | pte::us;
            const bool bare = has_pdpt() && level == 3;
            changed |= set_.link(slot, level, child,
                                 set_.address_of(child) | pte::p |
                                     (bare ? 0 : pte::a | rights | (above ? 0 : fraction)));
            table = child;
        }
    }

  private:
    // What an entry that points to a table takes over from the guest's.
    static constexpr u64 table_rights = pte::rw | pte::us | pte::nx | pte::pwt | pte::pcd;

    // The topmost shadow table is the PDPT, whose entries carry no rights (SDM 3A table 4-8).
    [[nodiscard]] bool has_pdpt() const { return !state_.long_mode(); }

    [[nodiscard]] bool set_root() {
        if (has_pdpt()) {
            root_ = Pool::pdpt;
            link_known_directories();
            return true;
        }
        root_ = set_.find_or_make({.guest = tracked() ? state_.cr3 & pte::address : 0,
                                   .level = static_cast<u8>(state_.shadow_levels())},
                                  tracked());
        return root_ != nil;
    }

    // What the four PDPTEs stand for now; what is not shadowed yet comes with the first fault.
    void link_known_directories() {
        for (unsigned i = 0; tracked() && i < 4; ++i) {
            const bool bits32 = state_.paging() == Paging::bits32;
            const u64 slot = set_.address_of(root_) + 8 * i;
            const bool present = bits32 || (state_.pdpte[i] & pte::p) != 0;
            const u64 table = (bits32 ? state_.cr3 & 0xffff'ffff : state_.pdpte[i]) & pte::address;
            const u32 child =
                !present ? nil
                         : set_.find({.guest = table, .level = 2, .part = static_cast<u8>(bits32 ? i : 0)});
            if (child == nil) {
                set_.drop_entry(slot, 3);
            } else {
                set_.link(slot, 3, child, set_.address_of(child) | pte::p);
            }
        }
    }

    // A 4-MByte page of 32-bit paging takes two entries; INVLPG of any address in it concerns both.
    void drop_other_half(u64 slot, unsigned level) {
        if (level == 2 && state_.paging() == Paging::bits32) {
            const u64 entry = set_.load(slot ^ 8);
            if ((entry & (pte::ps | fraction)) != 0) {
                set_.drop_entry(slot ^ 8, level);
            }
        }
    }

    // May a guest page of this level be mapped by one host entry? Not over a table that is watched.
    [[nodiscard]] bool can_be_large(u64 gpa, unsigned level) {
        constexpr u64 size = x86::page_bytes<ShadowFormat>(2);
        const u64 base = gpa & ~(size - 1);
        return level == 2 && memory_.contains(base, size) && memory_.to_physical(base) % size == 0 &&
               !(tracked() && set_.has_tables(base));
    }

    [[nodiscard]] u64 leaf_entry(u64 gpa, unsigned level, u64 guest, unsigned guest_level) {
        const u64 hidden = level == 1 && set_.is_protected(gpa) ? pte::rw : 0;
        return leaf_base(state_, memory_.to_physical(gpa), level, guest, guest_level) |
               (tracked_rights(guest) & ~hidden);
    }

    // The guest's table whose entry of this level the walk read.
    [[nodiscard]] static u64 guest_table(const Walk& w, unsigned level) {
        return w.steps[level].at & pte::address;
    }

    // Do the shadow tables above the leaf stand for the guest tables of this walk already?
    [[nodiscard]] bool is_linked(u64 gva, const Walk& w) const {
        x86::TableWalk t;
        set_.walk(root_, state_.shadow_levels(), gva, t);
        for (unsigned level = state_.shadow_levels(); level > w.level; --level) {
            if (level <= t.level ||
                set_.key_of(set_.child_at(t.steps[level].entry)).guest != guest_table(w, level - 1)) {
                return false;
            }
        }
        return true;
    }

    [[nodiscard]] u32 child_for(u64 gva, unsigned level, const Walk& w) {
        const u64 part_of_page = ~(x86::page_bytes<ShadowFormat>(level) - 1);
        const u8 below = static_cast<u8>(level - 1);
        if (!tracked()) {
            return set_.find_or_make({.guest = gva & part_of_page, .level = below}, false);
        }
        if (level <= w.level) {
            return set_.find_or_make({.guest = split_key(w.gpa & part_of_page, w.steps[w.level].entry),
                                      .level = below,
                                      .split = true},
                                     false);
        }
        const unsigned part = state_.paging() != Paging::bits32 ? 0
                              : below == 1                      ? gva >> 21 & 1
                                                                : gva >> 30 & 3;
        return set_.find_or_make(
            {.guest = guest_table(w, below), .level = below, .part = static_cast<u8>(part)}, true);
    }

    // Brings tables that the guest may have written into step, from this level up: entries that the guest's
    // no longer give are dropped. The others stay, or an instruction whose code and data lie behind different
    // entries of one such table would never have both.
    void refresh(unsigned from_level) {
        set_.for_each_unsync([&](u32 i) {
            const Key& key = set_.key_of(i);
            if (key.level >= from_level) {
                const Paging paging = state_.paging();
                paging == Paging::bits32 ? compare(Legacy32Format{state_}, i, key)
                : paging == Paging::pae  ? compare(PaeFormat{state_}, i, key)
                                         : compare(LongFormat{state_}, i, key);
            }
        });
    }

    template <class Format>
    void compare(const Format& format, u32 page, const Key& key) {
        set_.for_each_entry(page, [&](u32 n) {
            const u64 slot = set_.slot_at(page, n);
            if (!still_says(format, key, n, set_.load(slot))) {
                set_.drop_entry(slot, key.level);
            }
        });
    }

    // Would the guest's entry still give this one, the n-th of the shadow table?
    template <class Format>
    [[nodiscard]] bool still_says(const Format& format, const Key& key, unsigned n, u64 entry) {
        constexpr bool wide = sizeof(typename Format::Entry) == 8;
        const unsigned level = key.level;
        // A 32-bit page directory's entries map 4 MBytes, twice what one of the shadow's does.
        const unsigned index = (key.part * set_.entries + n) >> (!wide && level == 2 ? 1 : 0);
        const u64 guest =
            x86::read_entry(format, memory_, key.guest + index * sizeof(typename Format::Entry), level);
        if ((guest & pte::p) == 0 || (guest & pte::a) == 0 || format.reserved(guest, level) != 0) {
            return false;
        }
        const bool is_leaf = ShadowFormat::is_leaf(entry, level), in_parts = (entry & fraction) != 0;
        if (!format.is_leaf(guest, level)) {
            return !is_leaf && !in_parts &&
                   set_.key_of(set_.child_at(entry)).guest == format.address(guest) &&
                   ((entry ^ guest) & table_rights) == 0;
        }
        const u64 size = x86::page_bytes<ShadowFormat>(level);
        const u64 page = guest & pte::address & ~(x86::page_bytes<Format>(level) - 1);
        const u64 gpa = page + (!wide && level == 2 ? n % 2 * size : 0);
        if (level > 1 && !is_leaf) {
            return in_parts && set_.key_of(set_.child_at(entry)).guest == split_key(gpa, guest);
        }
        if (!memory_.contains(gpa, size) || (level > 1 && !can_be_large(gpa, level))) {
            return false;
        }
        // The right to write may be missing in the shadow.
        const u64 now = leaf_entry(gpa, level, guest, level);
        return ((now ^ entry) & ~pte::rw) == 0 && ((entry & ~now) & pte::rw) == 0;
    }

    Memory& memory_;
    TableSet<Memory, Tables> set_;
    const PagingState& state_;
    u32 root_ = nil;
    bool tracked_mode_ = false;
};

} // namespace refhv::shadow
