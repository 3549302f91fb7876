// SPDX-License-Identifier: MIT
// The shadow tables themselves: who points where, what maps which guest page, which guest tables are watched.
// Knows nothing of rights; mmu.hpp decides what the entries say.
//
// Memory is the guest's (guest_walk.hpp) and `u64 to_physical(u64 gpa)`, `u64 to_guest(u64 pa)`, `u64
// base()`. Tables is the host's: `u64 load(u64 pa)`, `void store(u64 pa, u64 entry)`, `void zero(u64 table)`.
#pragma once

#include "refhv/shadow/guest_formats.hpp"
#include "refhv/shadow/pool.hpp"

namespace refhv::shadow {

// Entries for the CPU, long-mode and PAE alike.
struct ShadowFormat {
    using Entry = u64;
    static constexpr unsigned index_bits = 9;

    [[nodiscard]] static u64 normal(u64 e, unsigned) { return e; }
    [[nodiscard]] static bool present(u64 e) { return (e & pte::p) != 0; }
    [[nodiscard]] static bool is_leaf(u64 e, unsigned level) { return level == 1 || (e & pte::ps) != 0; }
    [[nodiscard]] static u64 address(u64 e) { return e & pte::address; }
    [[nodiscard]] static u64 reserved(u64, unsigned) { return 0; }
    // Of the page that a leaf maps.
    [[nodiscard]] static u64 page(u64 e, unsigned level) {
        return e & pte::address & ~(x86::page_bytes<ShadowFormat>(level) - 1);
    }
};

template <class Memory, class Tables>
class TableSet {
  public:
    static constexpr unsigned entries = 512;

    TableSet(Memory& memory, Tables& tables, Pool& pool) : memory_(memory), tables_(tables), pool_(pool) {}

    void clear() {
        pool_.clear();
        for (unsigned i = 0; i < 4; ++i) {
            tables_.store(pool_.table_of(Pool::pdpt) + 8 * i, 0);
        }
        unsync_count_ = 0;
        overrun_ = false;
        flush_ = true;
    }

    // A list was longer than one exit may take: only clear() makes it right.
    [[nodiscard]] bool overrun() const { return overrun_; }

    [[nodiscard]] bool take_flush() {
        const bool f = flush_;
        flush_ = false;
        return f;
    }
    void want_flush() { flush_ = true; }

    [[nodiscard]] u64 load(u64 slot) const { return tables_.load(slot); }
    [[nodiscard]] u64 address_of(u32 page) const { return pool_.table_of(page); }
    [[nodiscard]] const Key& key_of(u32 page) const { return pool_.page(page).key; }
    [[nodiscard]] u32 child_at(u64 entry) const { return pool_.page_at(ShadowFormat::address(entry)); }
    [[nodiscard]] u64 slot_of(u32 page, u64 gva, unsigned level) const {
        return x86::entry_address<ShadowFormat>(pool_.table_of(page), gva, level);
    }
    [[nodiscard]] u64 slot_at(u32 page, unsigned index) const { return pool_.table_of(page) + 8 * index; }
    void walk(u32 root, unsigned levels, u64 gva, x86::TableWalk& w) const {
        x86::walk_tables(ShadowFormat{}, tables_, pool_.table_of(root), levels, gva, w);
    }
    [[nodiscard]] u32 find(const Key& key) const { return pool_.find(key); }
    // f(index) of every present entry of this table. f may drop it.
    template <class F>
    void for_each_entry(u32 page, F f) const {
        pool_.for_each_entry(page, f);
    }

    // nil: no room. `watched`: the key names a table in guest memory whose writes must be noticed.
    [[nodiscard]] u32 find_or_make(const Key& key, bool watched) {
        u32 i = pool_.find(key);
        if (i == nil) {
            i = pool_.allocate(key);
            if (i == nil && empty_abandoned()) {
                i = pool_.allocate(key);
            }
            if (i != nil) {
                tables_.zero(pool_.table_of(i));
                if (watched && memory_.contains(key.guest, page_size)) {
                    pool_.page(i).watched = true;
                    watch(key.guest);
                }
            }
        }
        return i;
    }

    // The entry at `slot`, of a table of this level, is to point to the child. false: it said so already.
    bool link(u64 slot, unsigned level, u32 child, u64 entry) {
        const u64 old = tables_.load(slot);
        if (old == entry) {
            return false;
        }
        const bool same_child = (old & pte::p) != 0 && !ShadowFormat::is_leaf(old, level) &&
                                ShadowFormat::address(old) == ShadowFormat::address(entry);
        if (same_child) {
            flush_ = true;
        } else {
            drop_entry(slot, level);
            pool_.push(pool_.page(child).parents, slot);
        }
        tables_.store(slot, entry);
        return true;
    }

    // … is to map the guest page at gpa. false: it said so already.
    bool set_leaf(u64 slot, unsigned level, u64 gpa, u64 entry) {
        const u64 old = tables_.load(slot);
        if (old == entry) {
            return false;
        }
        const bool same_page = (old & pte::p) != 0 && (old & pte::ps) == (entry & pte::ps) &&
                               ShadowFormat::page(old, level) == ShadowFormat::page(entry, level);
        if (!same_page) {
            drop_entry(slot, level);
            pool_.push(level == 1 ? pool_.frame(frame_of(gpa)) : pool_.region(region_of(gpa)), slot);
        } else if (((old ^ entry) & ~pte::rw) != 0 || ((old & ~entry) & pte::rw) != 0) {
            flush_ = true; // more than a right gained
        }
        tables_.store(slot, entry);
        return true;
    }

    void drop_entry(u64 slot, unsigned level) {
        const u64 entry = tables_.load(slot);
        if ((entry & pte::p) == 0) {
            return;
        }
        tables_.store(slot, 0);
        flush_ = true;
        if (ShadowFormat::is_leaf(entry, level)) {
            const u64 gpa = memory_.to_guest(ShadowFormat::page(entry, level));
            pool_.remove(level == 1 ? pool_.frame(frame_of(gpa)) : pool_.region(region_of(gpa)), slot);
            return;
        }
        const u32 child = child_at(entry);
        Page& page = pool_.page(child);
        pool_.remove(page.parents, slot);
        if (!page.watched && page.parents == nil) { // nobody else can want it
            pool_.abandon(child);
        }
    }

    // Is there a shadowed table in this guest page that a write must not pass by?
    [[nodiscard]] bool is_protected(u64 gpa) {
        return pool_.find_table(gpa, [&](u32 i) { return in_step(i); }) != nil;
    }
    // Does the 2-MByte region hold shadowed tables?
    [[nodiscard]] bool has_tables(u64 gpa) { return pool_.tables_in_region(region_of(gpa)) != 0; }

    // A write to this guest page is about to succeed: from now on its shadows may be out of step. false: too
    // many are.
    [[nodiscard]] bool release_tables_at(u64 gpa) {
        u32 found = nil;
        while ((found = pool_.find_table(gpa, [&](u32 i) { return in_step(i); })) != nil) {
            if (unsync_count_ == most_unsync) {
                return false;
            }
            pool_.page(found).unsync = true;
            unsync_[unsync_count_++] = found;
        }
        return true;
    }

    [[nodiscard]] bool any_unsync() const { return unsync_count_ != 0; }
    template <class F>
    void for_each_unsync(F f) {
        for (u32 i = 0; i < unsync_count_; ++i) {
            f(unsync_[i]);
        }
    }
    // Their content has been compared: the guest's tables are watched again.
    void set_all_in_step() {
        for_each_unsync([&](u32 i) { pool_.page(i).unsync = false; });
        for_each_unsync([&](u32 i) { protect(pool_.page(i).key.guest); });
        unsync_count_ = 0;
    }

  private:
    [[nodiscard]] u64 frame_of(u64 gpa) const { return (gpa - memory_.base()) / page_size; }
    [[nodiscard]] u64 region_of(u64 gpa) const { return (gpa >> 21) - (memory_.base() >> 21); }
    [[nodiscard]] bool in_step(u32 i) { return pool_.page(i).watched && !pool_.page(i).unsync; }

    // A new shadow of the guest table at gpa: from now on no mapping may write there.
    void watch(u64 gpa) {
        const u64 region = region_of(gpa);
        ++pool_.tables_in_region(region);
        for (u32 n = 0; pool_.region(region) != nil; ++n) {
            if (n == most_mappings) {
                overrun_ = true;
                return;
            }
            drop_entry(pool_.slot_of(pool_.region(region)), 2);
        }
        protect(gpa);
    }

    // Takes the right to write from every mapping of this guest page.
    void protect(u64 gpa) {
        u32 count = 0;
        for (u32 n = pool_.frame(frame_of(gpa)); n != nil; n = pool_.next(n)) {
            if (++count > most_mappings) {
                overrun_ = true;
                return;
            }
            const u64 slot = pool_.slot_of(n);
            const u64 entry = tables_.load(slot);
            if ((entry & pte::rw) != 0) {
                tables_.store(slot, entry & ~pte::rw);
                flush_ = true;
            }
        }
    }

    // Makes one table free that nobody wants; false: there is none. One at a time: emptying takes long, and
    // may leave others that nobody wants.
    [[nodiscard]] bool empty_abandoned() {
        const u32 index = pool_.take_abandoned();
        if (index == nil) {
            return false;
        }
        pool_.for_each_entry(index,
                             [&](u32 n) { drop_entry(slot_at(index, n), pool_.page(index).key.level); });
        pool_.release(index);
        return true;
    }

    // What one exit may have to do: tables out of step are compared entry by entry, and mappings of one page
    // gone through. More of either, and everything is forgotten, which takes no time. An instruction writes
    // to four pages at most, each of which can be a table of every level.
    static constexpr u32 most_unsync = 24, most_mappings = 1024;

    Memory& memory_;
    Tables& tables_;
    Pool& pool_;
    u32 unsync_[most_unsync] = {}; // pages marked so
    u32 unsync_count_ = 0;
    bool flush_ = false, overrun_ = false;
};

} // namespace refhv::shadow
