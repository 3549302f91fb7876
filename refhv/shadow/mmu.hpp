// SPDX-License-Identifier: MIT
// The shadow MMU: page tables for the CPU, made from the guest's. One implementation for both backends, both
// modes and every paging mode of the guest. Guests in long mode run on tables of their own depth, all others
// on PAE tables: a 32-bit guest's table of 1024 entries is then several shadow tables (Key::part), and a
// guest without paging has one page for everything.
//
//   tracked (mode `shadow`): every shadow table stands for one guest table and its entries carry that table's
//       own rights, so that the CPU combines levels as it does for the guest and tables are shared and cached
//       as the guest's are. A guest table that is shadowed is mapped read-only. A write to it makes it
//       `unsync`: writable and possibly out of step until the guest's next CR3 load (it is compared then) or
//       INVLPG (that page is dropped, higher tables are compared), which is when hardware would have to look
//       again too.
//   untracked (mode `vtlb`; `shadow` without paging, and while CR0.WP = 0, when the supervisor may write
//       anywhere): the tables are a TLB in software: they stand for parts of the address space, hold finished
//       translations, and are emptied at every CR3 load.
//
// The CPU runs with CR0.WP = 1 and EFER.NXE = 1 whatever the guest has, see leaf_rules.hpp.
// Memory and Tables: table_set.hpp.
#pragma once

#include "refhv/shadow/leaf_rules.hpp"
#include "refhv/shadow/table_set.hpp"

namespace refhv::shadow {

enum class Answer : u8 {
    retry,   // the shadow tables now hold the translation
    fault,   // the guest's own #PF; Walk::error
    outside, // translated, to an address that is no guest memory; Walk::gpa
};

template <class Memory, class Tables>
class Mmu {
  public:
    Mmu(Memory& memory, Tables& tables, Pool& pool) : memory_(memory), set_(memory, tables, pool) {}

    // Forgets everything and follows this guest state from now on. false: PDPTEs that CR3 must not load.
    [[nodiscard]] bool reset(const PagingState& state, bool tracked) {
        tracked_mode_ = tracked;
        state_ = state;
        const bool good = state_.paging() != Paging::pae || load_pdptes(memory_, state_);
        drop_all();
        return good;
    }

    [[nodiscard]] const PagingState& state() const { return state_; }
    // What the CPU itself must run with: CR3 is the shadow root's.
    [[nodiscard]] PagingState cpu_state() const {
        PagingState s = state_;
        s.cr0 |= x86::cr0::wp | x86::cr0::pg;
        s.cr4 |= x86::cr4::pae;
        s.cr4 &= ~x86::cr4::pcide; // tags are ours to give
        s.efer |= x86::efer::nxe;
        if (!s.long_mode()) { // LME waits for paging, and ours is on
            s.efer &= ~x86::efer::lme;
            s.cr4 &= ~(x86::cr4::la57 | x86::cr4::pke);
        }
        if (state_.paging() == Paging::none) { // no rights, no faults
            s.cr4 &= ~(x86::cr4::smep | x86::cr4::smap);
        }
        s.cr3 = real_cr3();
        return s;
    }

    [[nodiscard]] u64 real_cr3() const { return set_.address_of(root_); }

    // True once after translations were dropped or lost rights: the CPU's TLBs must forget theirs before the
    // guest goes on.
    [[nodiscard]] bool take_flush() { return set_.take_flush(); }

    // Registers that decide about rights but about no table: cheap.
    void set_rights(u64 rflags, u32 pkru) {
        state_.rflags = rflags;
        state_.pkru = pkru;
    }

    // CR0, CR4 or EFER changed in bits that concern translation. false: #GP for a PDPTE, nothing changed.
    [[nodiscard]] bool set_controls(u64 cr0, u64 cr4, u64 efer) {
        PagingState next = state_;
        next.cr0 = cr0;
        next.cr4 = cr4;
        next.efer = efer;
        if (next.paging() == Paging::pae && !load_pdptes(memory_, next)) {
            return false;
        }
        state_ = next;
        drop_all();
        return true;
    }

    // CR0, CR4 or EFER changed in bits that do not.
    void set_other_bits(u64 cr0, u64 cr4, u64 efer) {
        state_.cr0 = cr0;
        state_.cr4 = cr4;
        state_.efer = efer;
    }

    // MOV to CR3. false: #GP for a PDPTE, nothing changed.
    [[nodiscard]] bool load_cr3(u64 cr3) {
        if (state_.paging() == Paging::pae) {
            PagingState next = state_;
            next.cr3 = cr3;
            if (!load_pdptes(memory_, next)) {
                return false;
            }
            state_ = next;
        }
        state_.cr3 = cr3;
        if (state_.paging() == Paging::none) {
            return true;
        }
        if (!tracked()) {
            drop_all();
            return true;
        }
        refresh(1);
        set_.for_each_unsync([&](u32 i) { set_.set_in_step(i); });
        set_.want_flush();
        if (!set_root()) {
            drop_all();
        }
        return true;
    }

    // INVLPG, INVPCID for one address.
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

    // Where an access of the guest would go; what it sets on the way is set.
    [[nodiscard]] Answer translate(u64 gva, Access access, Walk& result) {
        walk(memory_, state_, gva, access, result);
        return !result.ok                         ? Answer::fault
               : !memory_.contains(result.gpa, 1) ? Answer::outside
                                                  : Answer::retry;
    }

    // The CPU raised #PF on the shadow tables. `walk` says what the guest's tables have to say.
    [[nodiscard]] Answer page_fault(u64 gva, Access access, Walk& result) {
        walk(memory_, state_, gva, access, result);
        if (!result.ok) {
            return Answer::fault;
        }
        const u64 page = result.gpa & ~(page_size - 1);
        if (!memory_.contains(page, page_size)) {
            return Answer::outside;
        }
        if (access.write && tracked()) {
            set_.release_tables_at(page);
        }
        for_one_instruction_ = for_one_instruction_ || is_for_one_instruction(state_, result, access);
        changed_ = false;
        if (!install(gva, access, result)) { // no room: begin anew, then there is
            drop_all();
            (void)install(gva, access, result);
        }
        return is_implicit(gva, access, result) ? Answer::fault : Answer::retry;
    }

    // An entry was made that is good for one instruction. After that one end_instruction() is due, and a
    // flush.
    [[nodiscard]] bool for_one_instruction() const { return for_one_instruction_; }
    void end_instruction() {
        if (for_one_instruction_) {
            drop_all();
        }
    }

    void drop_all() {
        set_.clear();
        for_one_instruction_ = false;
        (void)set_root();
    }

  private:
    // What an entry that points to a table takes over from the guest's.
    static constexpr u64 table_rights = pte::rw | pte::us | pte::nx | pte::pwt | pte::pcd;

    [[nodiscard]] bool tracked() const {
        return tracked_mode_ && state_.wp() && state_.paging() != Paging::none;
    }
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
            if (child == nil || !set_.has_nodes()) {
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

    // The same fault twice although the tables allow the access: one of the CPU's own accesses, to a
    // descriptor table or a stack, which SMAP forbids whatever AC says (SDM 3A 4.6.1).
    [[nodiscard]] bool is_implicit(u64 gva, Access a, Walk& w) {
        const bool again = !changed_ && last_.gva == gva && last_.write == a.write;
        last_ = {changed_ ? ~u64{0} : gva, a.write};
        if (!again || a.user || a.fetch || !w.user || !state_.smap()) {
            return false;
        }
        w.ok = false;
        w.error = fault::p | detail::describe(state_, a);
        last_.gva = ~u64{0};
        return true;
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

    [[nodiscard]] bool install(u64 gva, Access access, const Walk& w) {
        if (!set_.has_nodes() || root_ == nil) {
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
                changed_ |= set_.set_leaf(
                    slot, level, gpa,
                    tracked() ? leaf_entry(gpa, level, guest, w.level)
                              : leaf_base(state_, memory_.to_physical(gpa), level, guest, w.level) |
                                    tlb_rights(state_, w, access));
                return true;
            }
            const u32 child = child_for(gva, level, w);
            if (child == nil) {
                return false;
            }
            // The rights of a split page, and of everything in the software TLB, stand in the leaves.
            const bool above = level > w.level;
            const u64 rights = tracked() && above ? w.steps[level].entry & table_rights : pte::rw | pte::us;
            const bool bare = has_pdpt() && level == 3;
            changed_ |= set_.link(slot, level, child,
                                  set_.address_of(child) | pte::p |
                                      (bare ? 0 : pte::a | rights | (above ? 0 : fraction)));
            table = child;
        }
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
        for (unsigned n = 0; n < set_.entries; ++n) {
            const u64 slot = set_.slot_at(page, n);
            const u64 entry = set_.load(slot);
            if ((entry & pte::p) != 0 && !still_says(format, key, n, entry)) {
                set_.drop_entry(slot, key.level);
            }
        }
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
    PagingState state_{};
    u32 root_ = nil;
    bool tracked_mode_ = false;
    bool for_one_instruction_ = false;
    bool changed_ = false; // by the last page_fault()
    struct {
        u64 gva;
        bool write;
    } last_{~u64{0}, false}; // fault that changed nothing
};

} // namespace refhv::shadow
