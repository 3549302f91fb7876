// SPDX-License-Identifier: MIT
// The shadow MMU: page tables for the CPU, made from the guest's. One implementation for both backends and
// both modes.
//
//   tracked (mode `shadow`): every shadow table stands for one guest table and its entries carry that table's
//   own rights,
//       so that the CPU combines levels as it does for the guest and tables are shared and cached as the
//       guest's are. A guest table that is shadowed is mapped read-only. A write to it makes it `unsync`:
//       writable and possibly out of step until the guest's next CR3 load (leaf tables are compared then,
//       higher ones start anew) or INVLPG (that page is dropped), which is when hardware would have to look
//       again too.
//   untracked (mode `vtlb`, and `shadow` while CR0.WP = 0, when the supervisor may write anywhere): the
//   tables are a TLB
//       in software: they stand for parts of the address space, hold finished translations, and are emptied
//       at every CR3 load.
//
// The CPU runs with CR0.WP = 1 and EFER.NXE = 1 whatever the guest has. Where its WP is 0, a page that the
// supervisor has written against RW = 0 is the supervisor's alone (not executable under SMEP) until the user
// asks for it. Known gap: with SMAP = 1 besides, such a page escapes SMAP until then.
//
// Memory is the guest's (guest_walk.hpp) and `u64 to_physical(u64 gpa)`, `u64 to_guest(u64 pa)`, `u64
// base()`. Tables is the host's: `u64 load(u64 pa)`, `void store(u64 pa, u64 entry)`, `void zero(u64 table)`.
#pragma once

#include "refhv/shadow/guest_walk.hpp"
#include "refhv/shadow/pool.hpp"

namespace refhv::shadow {

enum class Answer : u8 {
    retry,   // the shadow tables now hold the translation
    fault,   // the guest's own #PF; Walk::error
    outside, // translated, to an address that is no guest memory; Walk::gpa
};

template <class Memory, class Tables>
class Mmu {
  public:
    Mmu(Memory& memory, Tables& tables, Pool& pool) : memory_(memory), tables_(tables), pool_(pool) {}

    // Forgets everything and follows this guest state from now on.
    void reset(const PagingState& state, bool tracked) {
        tracked_mode_ = tracked;
        state_ = state;
        drop_all();
    }

    [[nodiscard]] const PagingState& state() const { return state_; }
    // What the CPU itself must run with: CR3 is the shadow root's.
    [[nodiscard]] PagingState cpu_state() const {
        PagingState s = state_;
        s.cr0 |= x86::cr0::wp;
        s.efer |= x86::efer::nxe;
        s.cr3 = pool_.table_of(root_);
        return s;
    }

    // True once after translations were dropped or lost rights: the CPU's TLBs must forget theirs before the
    // guest goes on.
    [[nodiscard]] bool take_flush() {
        const bool f = flush_;
        flush_ = false;
        return f;
    }

    // Registers that decide about rights but about no table: cheap.
    void set_rights(u64 rflags, u32 pkru) {
        state_.rflags = rflags;
        state_.pkru = pkru;
    }

    // CR0, CR4 or EFER changed in bits that concern translation.
    void set_controls(u64 cr0, u64 cr4, u64 efer) {
        state_.cr0 = cr0;
        state_.cr4 = cr4;
        state_.efer = efer;
        drop_all();
    }

    // CR0 or CR4 changed in bits that do not.
    void set_other_bits(u64 cr0, u64 cr4) {
        state_.cr0 = cr0;
        state_.cr4 = cr4;
    }

    // MOV to CR3.
    void load_cr3(u64 cr3) {
        state_.cr3 = cr3;
        if (!tracked()) {
            drop_all();
            return;
        }
        synchronize();
        if (!set_root()) {
            drop_all();
        }
    }

    // INVLPG, INVPCID for one address.
    void invalidate(u64 gva) {
        u32 table = root_;
        for (unsigned level = state_.levels(); table != nil; --level) {
            const u64 slot = slot_of(table, gva, level);
            const u64 entry = tables_.load(slot);
            if ((entry & pte::p) == 0) {
                break;
            }
            const bool leaf = level == 1 || (entry & (pte::ps | fraction)) != 0;
            if (leaf) {
                drop_entry(slot, level);
                break;
            }
            table = pool_.page_at(entry & pte::address);
        }
        refresh(2); // INVLPG forgets every cached higher entry (SDM 3A 4.10.4.1)
        flush_ = true;
    }

    // Where an access of the guest would go; what it sets on the way is set. false: it would fault or leave
    // memory.
    [[nodiscard]] bool translate(u64 gva, Access access, u64& gpa) {
        const Walk w = walk(memory_, state_, gva, access);
        gpa = w.gpa;
        return w.ok && memory_.contains(w.gpa, 1);
    }

    // The CPU raised #PF on the shadow tables. `walk` says what the guest's tables have to say.
    [[nodiscard]] Answer page_fault(u64 gva, Access access, Walk& result) {
        result = walk(memory_, state_, gva, access);
        if (!result.ok) {
            return Answer::fault;
        }
        if (!memory_.contains(result.gpa & ~(page_size - 1), page_size)) {
            return Answer::outside;
        }
        if (access.write && tracked()) {
            release_tables_at(result.gpa & ~(page_size - 1));
        }
        if (!install(gva, access, result)) { // no room: begin anew, then there is
            drop_all();
            (void)install(gva, access, result);
        }
        return Answer::retry;
    }

    void drop_all() {
        pool_.clear();
        unsync_ = 0;
        flush_ = true;
        (void)set_root();
    }

  private:
    // In an entry that points to a table: what lies behind it are parts of one guest page. Ignored by the
    // CPU.
    static constexpr u64 fraction = 1u << 9;

    [[nodiscard]] bool tracked() const { return tracked_mode_ && state_.wp(); }

    [[nodiscard]] u64 slot_of(u32 page, u64 gva, unsigned level) const {
        return pool_.table_of(page) + 8 * (gva >> (12 + 9 * (level - 1)) & 511);
    }

    [[nodiscard]] bool set_root() {
        root_ =
            find_or_make(tracked() ? state_.cr3 & pte::address : 0, static_cast<u8>(state_.levels()), false);
        return root_ != nil;
    }

    // nil: the pool is empty.
    [[nodiscard]] u32 find_or_make(u64 guest, u8 level, bool split) {
        u32 i = pool_.find(guest, level, split);
        if (i == nil) {
            i = pool_.allocate(guest, level, split);
            if (i != nil) {
                tables_.zero(pool_.table_of(i));
                if (!split && tracked() && memory_.contains(guest, page_size)) {
                    watch(guest);
                }
            }
        }
        return i;
    }

    // A new shadow of the guest table at gpa: from now on no mapping may write there.
    void watch(u64 gpa) {
        const u64 region = region_of(gpa);
        ++pool_.tables_in_region(region);
        while (pool_.region(region) != nil) {
            drop_entry(pool_.node(pool_.region(region)).slot, 2);
        }
        protect(gpa);
    }

    // Takes the right to write from every mapping of this guest page.
    void protect(u64 gpa) {
        for (u32 n = pool_.frame(frame_of(gpa)); n != nil; n = pool_.node(n).next) {
            const u64 slot = pool_.node(n).slot;
            const u64 entry = tables_.load(slot);
            if ((entry & pte::rw) != 0) {
                tables_.store(slot, entry & ~pte::rw);
                flush_ = true;
            }
        }
    }

    [[nodiscard]] u64 frame_of(u64 gpa) const { return (gpa - memory_.base()) / page_size; }
    [[nodiscard]] u64 region_of(u64 gpa) const { return (gpa >> 21) - (memory_.base() >> 21); }

    // Is there a shadowed table in this guest page that a write must not pass by?
    [[nodiscard]] bool is_protected(u64 gpa) {
        return tracked() && pool_.find_table(gpa, [&](u32 i) { return !pool_.page(i).unsync; }) != nil;
    }

    void set_unsync(u32 index) {
        unsync_ += pool_.page(index).unsync ? 0 : 1;
        pool_.page(index).unsync = true;
    }

    // A write to this guest page is about to succeed: from now on its shadows may be out of step.
    void release_tables_at(u64 gpa) {
        const auto next = [&] { return pool_.find_table(gpa, [&](u32 i) { return !pool_.page(i).unsync; }); };
        for (u32 i = next(); i != nil; i = next()) {
            set_unsync(i);
        }
    }

    void drop_entry(u64 slot, unsigned level) {
        const u64 entry = tables_.load(slot);
        if ((entry & pte::p) == 0) {
            return;
        }
        tables_.store(slot, 0);
        flush_ = true;
        if (level == 1) {
            pool_.remove(pool_.frame(frame_of(memory_.to_guest(entry & pte::address))), slot);
            return;
        }
        if ((entry & pte::ps) != 0) {
            const u64 gpa = memory_.to_guest(entry & pte::address & ~u64{0x1f'ffff});
            pool_.remove(pool_.region(region_of(gpa)), slot);
            return;
        }
        const u32 child = pool_.page_at(entry & pte::address);
        pool_.remove(pool_.page(child).parents, slot);
        if (pool_.page(child).split || !tracked()) { // nobody else can want it
            zap(child);
        }
    }

    void empty(u32 index) {
        const u64 table = pool_.table_of(index);
        for (unsigned i = 0; i < 512; ++i) {
            drop_entry(table + 8 * i, pool_.page(index).level);
        }
    }

    void zap(u32 index) {
        empty(index);
        Page& page = pool_.page(index);
        while (page.parents != nil) {
            const u64 slot = pool_.node(page.parents).slot;
            tables_.store(slot, 0);
            pool_.remove(page.parents, slot);
            flush_ = true;
        }
        unsync_ -= page.unsync ? 1 : 0;
        if (!page.split && tracked() && memory_.contains(page.guest, page_size)) {
            --pool_.tables_in_region(region_of(page.guest));
        }
        pool_.release(index);
    }

    // Entry of a tracked table that maps a page of `level` at gpa, from a guest entry of `guest_level`.
    [[nodiscard]] u64 leaf_entry(u64 gpa, unsigned level, u64 guest, unsigned guest_level) {
        // Without D in the guest's entry the first write must come here to set it.
        const bool writable =
            (guest & pte::rw) != 0 && (guest & pte::d) != 0 && !(level == 1 && is_protected(gpa));
        return leaf_base(gpa, level, guest, guest_level) | (guest & (pte::us | pte::nx)) |
               (writable ? pte::rw : 0);
    }

    // Entry of the software TLB: all levels together, for this access.
    [[nodiscard]] u64 tlb_entry(u64 gpa, unsigned level, const Walk& w, Access access) {
        const u64 guest = w.steps[w.leaf].entry;
        const bool against_rw = access.write && !access.user && !w.writable; // CR0.WP is 0
        const bool writable = against_rw || (w.writable && (guest & pte::d) != 0);
        const bool user = w.user && !against_rw;
        const bool no_execute = w.no_execute || (against_rw && w.user && state_.smep());
        return leaf_base(gpa, level, guest, w.leaf) | (writable ? pte::rw : 0) | (user ? pte::us : 0) |
               (no_execute ? pte::nx : 0);
    }

    // Address, memory type and protection key.
    [[nodiscard]] u64 leaf_base(u64 gpa, unsigned level, u64 guest, unsigned guest_level) {
        const bool pat = (guest & (guest_level > 1 ? pte::pat_large : pte::ps)) != 0;
        return memory_.to_physical(gpa) | pte::p | pte::a | pte::d | (guest & (pte::pwt | pte::pcd)) |
               (state_.pke() ? guest & (u64{15} << pte::key_shift) : 0) | (level > 1 ? pte::ps : 0) |
               (pat ? (level > 1 ? pte::pat_large : pte::ps) : 0);
    }

    // May a guest page of this level be mapped by one host entry? Not over a table that is watched.
    [[nodiscard]] bool can_be_large(u64 gpa, unsigned level) {
        constexpr u64 size = page_size << 9;
        const u64 base = gpa & ~(size - 1);
        return level == 2 && memory_.contains(base, size) && memory_.to_physical(base) % size == 0 &&
               !(tracked() && pool_.tables_in_region(region_of(base)) != 0);
    }

    // What a split page stands for: the large page and every bit of the guest's entry that its leaves show.
    [[nodiscard]] static u64 split_key(u64 gpa, u64 guest) {
        const u64 low = (guest >> 1 & 15) | (guest >> 2 & 16) | (guest >> 7 & 32) | (guest >> 57 & 64);
        return gpa | low |
               (guest >> pte::key_shift & 15) << 7; // RW US PWT PCD, D, PAT, NX, key: below bit 12
    }

    [[nodiscard]] bool install(u64 gva, Access access, const Walk& w) {
        if (!pool_.has_nodes()) {
            return false;
        }
        // No TLB can hold what lies behind an entry that was not there: nothing stale may show through a new
        // one.
        if (tracked() && unsync_ != 0 && !is_linked(gva, w)) {
            refresh(1);
        }
        u32 table = root_;
        for (unsigned level = state_.levels();; --level) {
            const u64 slot = slot_of(table, gva, level);
            const u64 size = page_size << (9 * (level - 1));
            if (level == 1 || (level <= w.leaf && can_be_large(w.gpa, level))) {
                const u64 gpa = w.gpa & ~(size - 1);
                set_leaf(slot, level, gpa,
                         tracked() ? leaf_entry(gpa, level, w.steps[w.leaf].entry, w.leaf)
                                   : tlb_entry(gpa, level, w, access));
                return true;
            }
            const u32 child = child_for(gva, level, w);
            if (child == nil) {
                return false;
            }
            // The rights of a split page, and of everything in the software TLB, stand in the leaves.
            const u64 all = pte::rw | pte::us, mask = all | pte::nx | pte::pwt | pte::pcd;
            const bool above = level > w.leaf;
            const u64 rights = tracked() && above ? w.steps[level].entry & mask : all;
            link(slot, level, child,
                 pool_.table_of(child) | pte::p | pte::a | rights | (above ? 0 : fraction));
            table = child;
        }
    }

    // Do the shadow tables above the leaf stand for the guest tables of this walk already?
    [[nodiscard]] bool is_linked(u64 gva, const Walk& w) const {
        u32 table = root_;
        for (unsigned level = state_.levels(); level > w.leaf; --level) {
            const u64 entry = tables_.load(slot_of(table, gva, level));
            if ((entry & pte::p) == 0 || (entry & pte::ps) != 0) {
                return false;
            }
            table = pool_.page_at(entry & pte::address);
            if (pool_.page(table).guest != (w.steps[level].entry & pte::address)) {
                return false;
            }
        }
        return true;
    }

    [[nodiscard]] u32 child_for(u64 gva, unsigned level, const Walk& w) {
        const u64 size = page_size << (9 * (level - 1));
        const u8 below = static_cast<u8>(level - 1);
        if (!tracked()) {
            return find_or_make(gva & ~(size - 1), below, false);
        }
        return level > w.leaf
                   ? find_or_make(w.steps[level].entry & pte::address, below, false)
                   : find_or_make(split_key(w.gpa & ~(size - 1), w.steps[w.leaf].entry), below, true);
    }

    void link(u64 slot, unsigned level, u32 child, u64 entry) {
        const u64 old = tables_.load(slot);
        if (old == entry) {
            return;
        }
        const bool same_child =
            (old & pte::p) != 0 && (old & pte::ps) == 0 && (old & pte::address) == (entry & pte::address);
        if (same_child) {
            flush_ = true;
        } else {
            drop_entry(slot, level);
            pool_.push(pool_.page(child).parents, slot);
        }
        tables_.store(slot, entry);
    }

    void set_leaf(u64 slot, unsigned level, u64 gpa, u64 entry) {
        const u64 old = tables_.load(slot);
        const bool same_page = (old & pte::p) != 0 && (old & pte::ps) == (entry & pte::ps) &&
                               page_of(old, level) == page_of(entry, level);
        if (!same_page) {
            drop_entry(slot, level);
            pool_.push(level == 1 ? pool_.frame(frame_of(gpa)) : pool_.region(region_of(gpa)), slot);
        } else if (((old ^ entry) & ~pte::rw) != 0 || ((old & ~entry) & pte::rw) != 0) {
            flush_ = true; // more than a right gained
        }
        tables_.store(slot, entry);
    }

    [[nodiscard]] static u64 page_of(u64 entry, unsigned level) {
        return entry & pte::address & ~((page_size << (9 * (level - 1))) - 1);
    }

    // Brings tables that the guest may have written into step, from this level up: of leaf tables what
    // differs is dropped, higher ones start anew.
    void refresh(unsigned from_level) {
        for_each_unsync([&](u32 i) {
            if (pool_.page(i).level > 1) {
                empty(i);
            }
            for (unsigned n = 0; from_level == 1 && pool_.page(i).level == 1 && n < 512; ++n) {
                const u64 slot = pool_.table_of(i) + 8 * n;
                const u64 entry = tables_.load(slot);
                if ((entry & pte::p) != 0 && !still_says(memory_.load(pool_.page(i).guest + 8 * n), entry)) {
                    drop_entry(slot, 1);
                }
            }
        });
    }

    // At a CR3 load: and every table is watched again.
    void synchronize() {
        refresh(1);
        for_each_unsync([&](u32 i) {
            pool_.page(i).unsync = false;
            --unsync_;
            protect(pool_.page(i).guest);
        });
    }

    template <class F>
    void for_each_unsync(F f) {
        for (u32 i = 0; unsync_ != 0 && i < pool_.page_limit(); ++i) {
            if (pool_.page(i).used && pool_.page(i).unsync) {
                f(i);
            }
        }
    }

    // Would the guest's entry still give this leaf? The right to write may be missing in the shadow.
    [[nodiscard]] bool still_says(u64 guest, u64 entry) {
        if ((guest & pte::p) == 0 || (guest & pte::a) == 0 ||
            (guest & detail::reserved_bits(state_, 1, guest)) != 0 ||
            !memory_.contains(guest & pte::address, page_size)) {
            return false;
        }
        const u64 now = leaf_entry(guest & pte::address, 1, guest, 1);
        return ((now ^ entry) & ~pte::rw) == 0 && ((entry & ~now) & pte::rw) == 0;
    }

    Memory& memory_;
    Tables& tables_;
    Pool& pool_;
    PagingState state_{};
    u32 root_ = nil;
    u32 unsync_ = 0; // pages marked so
    bool tracked_mode_ = false;
    bool flush_ = false;
};

} // namespace refhv::shadow
