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
// Memory and Tables: table_set.hpp. What the entries say: translations.hpp.
#pragma once

#include "refhv/shadow/translations.hpp"

namespace refhv::shadow {

enum class Answer : u8 {
    retry,   // the shadow tables now hold the translation
    fault,   // the guest's own #PF; Walk::error
    outside, // translated, to an address that is no guest memory; Walk::gpa
};

template <class Memory, class Tables>
class Mmu {
  public:
    Mmu(Memory& memory, Tables& tables, Pool& pool)
        : memory_(memory), translations_(memory, tables, pool, state_) {}
    Mmu(const Mmu&) = delete; // its parts point at each other
    Mmu& operator=(const Mmu&) = delete;

    // Follows this guest state from now on, and forgets everything where translations may depend on what is
    // new. false: PDPTEs that CR3 must not load.
    [[nodiscard]] bool reset(const PagingState& state, bool tracked) {
        const PagingState before = state_;
        translations_.set_tracked_mode(tracked);
        state_ = state;
        const bool good = state_.paging() != Paging::pae || load_pdptes(memory_, state_);
        if (!good || !follows_ || !same_translations(before, state_)) {
            drop_all();
        }
        follows_ = good;
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

    [[nodiscard]] u64 real_cr3() const { return translations_.root(); }

    // True once after translations were dropped or lost rights: the CPU's TLBs must forget theirs before the
    // guest goes on.
    [[nodiscard]] bool take_flush() { return translations_.take_flush(); }

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
        if (translations_.tracked()) {
            translations_.change_root();
        } else {
            drop_all();
        }
        return true;
    }

    // INVLPG, INVPCID for one address.
    void invalidate(u64 gva) { translations_.invalidate(gva); }

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
        if (access.write) {
            translations_.allow_write(page);
        }
        for_one_instruction_ = for_one_instruction_ || is_for_one_instruction(state_, result, access);
        bool changed = false;
        if (!translations_.install(gva, access, result, changed)) { // no room: begin anew, then there is
            translations_.begin_anew();
            (void)translations_.install(gva, access, result, changed);
        }
        return is_implicit(gva, access, changed, result) ? Answer::fault : Answer::retry;
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
        translations_.begin_anew();
        for_one_instruction_ = false;
    }

  private:
    // What decides about translations and is not asked for at each walk.
    [[nodiscard]] static bool same_translations(const PagingState& a, const PagingState& b) {
        return a.cr0 == b.cr0 && a.cr3 == b.cr3 && a.cr4 == b.cr4 && a.efer == b.efer &&
               __builtin_memcmp(a.pdpte, b.pdpte, sizeof a.pdpte) == 0;
    }

    // The same fault twice although the tables allow the access: one of the CPU's own accesses, to a
    // descriptor table or a stack, which SMAP forbids whatever AC says (SDM 3A 4.6.1).
    [[nodiscard]] bool is_implicit(u64 gva, Access a, bool changed, Walk& w) {
        const bool again = !changed && last_.gva == gva && last_.write == a.write;
        last_ = {changed ? ~u64{0} : gva, a.write};
        if (!again || a.user || a.fetch || !w.user || !state_.smap()) {
            return false;
        }
        w.ok = false;
        w.error = fault::p | detail::describe(state_, a);
        last_.gva = ~u64{0};
        return true;
    }

    Memory& memory_;
    PagingState state_{};
    Translations<Memory, Tables> translations_;
    bool follows_ = false; // a state that reset() was given
    bool for_one_instruction_ = false;
    struct {
        u64 gva;
        bool write;
    } last_{~u64{0}, false}; // fault that changed nothing
};

} // namespace refhv::shadow
