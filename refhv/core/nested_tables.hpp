// SPDX-License-Identifier: MIT
// The nested tables of one VM. Every table that its memory can ever need has its place in one contiguous
// pool, given by level and address alone: entries are written for the CPU and never followed by the core, so
// that a client may write anything at all into them.
//
// Format is a trait as in x86/page_table.hpp, and besides:
//     static u64 Format::part(u64 leaf, unsigned level, u64 i);  the i-th leaf of the next level of a leaf
//     Format::flags  what the CPU sets in entries by itself
//     Format::may_be_present(entry)  is it present under any controls?
#pragma once

#include "refhv/core/guest_addresses.hpp"
#include "refhv/x86/page_table.hpp"

namespace refhv {

template <class Format>
class NestedTables {
  public:
    static constexpr unsigned levels = 4;

    // Maps all of `memory`, with leaves of its nested page size. false: exhausted.
    [[nodiscard]] bool create(Arena& arena, const GuestMemory& memory) {
        const u64 last = memory.gpa_base + memory.bytes() - 1;
        first_directory_ = memory.gpa_base >> 30;
        first_table_ = memory.gpa_base >> 21;
        directories_ = (last >> 30) - first_directory_ + 1;
        pages_ = 2 + directories_ + (last >> 21) - first_table_ + 1;
        pool_ = arena.allocate(pages_);
        if (pool_ == 0) {
            return false;
        }
        map(memory, memory.gpa_base, memory.bytes(), x86::Rights::all);
        return true;
    }

    void destroy(Arena& arena) {
        if (pool_ != 0) {
            arena.release(pool_, pages_);
            pool_ = 0;
        }
    }

    [[nodiscard]] u64 root() const { return pool_; }

    // [gpa, gpa + size) with leaves of the VM's nested page size.
    void map(const GuestMemory& memory, u64 gpa, u64 size, x86::Rights rights) {
        const unsigned level = memory.leaf_level();
        const u64 leaf = x86::leaf_size(level);
        slices::each(size, slices::entries * leaf, [&](u64 first, u64 bytes) {
            for (u64 at = gpa + first; at < gpa + first + bytes; at += leaf) {
                open_path(at, level);
                store(slot(at, level),
                      rights == x86::Rights::none ? 0 : Format::leaf(memory.to_physical(at), level, rights));
            }
        });
    }

    // Gives the page all rights, by the leaf where the CPU's walk ends now, at most of the VM's nested page
    // size. false: no guest memory. Part of what a handled violation costs, so the usual case is short: only
    // the last entry is at fault.
    [[nodiscard]] bool fix(const GuestMemory& memory, u64 gpa) {
        if (!memory.contains(gpa, 1)) {
            return false;
        }
#pragma GCC unroll 4
        for (unsigned level = levels; level > 0; --level) {
            const u64 at = slot(gpa, level);
            if (level > 1 && is_open(load(at), gpa, level)) {
                continue;
            }
            if (level > memory.leaf_level() || (level > 1 && leads_on(load(at), gpa, level))) {
                break;
            }
            store_leaf(memory, at, gpa, level);
            return true;
        }
        fix_path(memory, gpa);
        return true;
    }

    // The request has been checked as far as no format is needed for it.
    [[nodiscard]] Status edit(const GuestMemory& memory, const abi::NestedEntry& what,
                              abi::NestedEntryReply& reply) {
        const unsigned level = what.level;
        if ((what.flags & abi::nested_entry_write) != 0) {
            for (u64 i = 0; i < what.count; ++i) {
                if (const Status status = checked(memory, what, what.value + i * what.step); !status.ok()) {
                    return status;
                }
            }
        }
        const Found before = find(what.gpa, level);
        reply = {told(memory, before), before.level, 0};
        if ((what.flags & abi::nested_entry_write) == 0) {
            return {};
        }
        for (u64 i = 0; i < what.count; ++i) {
            if (i % slices::entries == slices::entries - 1) {
                slices::let_host_run();
            }
            const u64 gpa = what.gpa + i * x86::leaf_size(level);
            u64 entry = what.value + i * what.step;
            if ((what.flags & abi::nested_entry_table) != 0) {
                reach(gpa, level);
                entry = (entry & ~Format::address_mask) | table_of(gpa, level - 1);
            } else if ((what.flags & abi::nested_entry_raw) == 0 && Format::may_be_present(entry)) {
                entry += memory.hpa_base - memory.gpa_base;
            }
            for (unsigned above = levels; above > level; --above) {
                reach(gpa, above);
            }
            store(slot(gpa, level), entry);
        }
        return {};
    }

  private:
    struct Found {
        u64 entry;
        unsigned level;
    };

    // Which table holds the entries of `level` for this address.
    [[nodiscard]] u64 table_of(u64 gpa, unsigned level) const {
        const u64 index = level == 4   ? 0
                          : level == 3 ? 1
                          : level == 2 ? 2 + (gpa >> 30) - first_directory_
                                       : 2 + directories_ + (gpa >> 21) - first_table_;
        return pool_ + index * page_size;
    }
    [[nodiscard]] u64 slot(u64 gpa, unsigned level) const {
        return table_of(gpa, level) + 8 * (gpa / x86::leaf_size(level) % 512);
    }
    [[nodiscard]] static u64 load(u64 pa) {
        return *static_cast<const volatile u64*>(platform::to_virtual(pa));
    }
    static void store(u64 pa, u64 entry) {
        *static_cast<volatile u64*>(platform::to_virtual(pa)) = entry;
    }

    // Does the entry lead to the table that is our own, whatever else stands in it?
    [[nodiscard]] bool leads_on(u64 entry, u64 gpa, unsigned level) const {
        return level > 1 && Format::address(entry) == table_of(gpa, level - 1);
    }

    // Does it do so without restricting anything?
    [[nodiscard]] bool is_open(u64 entry, u64 gpa, unsigned level) const {
        return ((entry ^ Format::table(table_of(gpa, level - 1))) & ~Format::flags) == 0;
    }

    void store_leaf(const GuestMemory& memory, u64 at, u64 gpa, unsigned level) {
        const u64 page = gpa & ~(x86::leaf_size(level) - 1);
        store(at, Format::leaf(memory.to_physical(page), level, x86::Rights::all));
    }

    // fix() where an entry above the last one is at fault too.
    [[gnu::noinline]] void fix_path(const GuestMemory& memory, u64 gpa) {
        const unsigned end = find(gpa, 1).level;
        const unsigned level = end < memory.leaf_level() ? end : memory.leaf_level();
        open_path(gpa, level);
        store_leaf(memory, slot(gpa, level), gpa, level);
    }

    [[nodiscard]] Found find(u64 gpa, unsigned wanted) const {
        for (unsigned level = levels;; --level) {
            const u64 entry = load(slot(gpa, level));
            if (level == wanted || !leads_on(entry, gpa, level)) {
                return {entry, level};
            }
        }
    }

    // Makes the entry of `level` lead to our table of the next one, which then maps what the entry mapped.
    void reach(u64 gpa, unsigned level) {
        const u64 at = slot(gpa, level);
        const u64 entry = load(at);
        if (leads_on(entry, gpa, level)) {
            return;
        }
        const u64 table = table_of(gpa, level - 1);
        const bool leaf = level < levels && Format::present(entry) && Format::is_leaf(entry, level);
        for (u64 i = 0; i < 512; ++i) {
            store(table + 8 * i, leaf ? Format::part(entry, level, i) : 0);
        }
        store(at, Format::table(table));
    }

    // The entries above `level` lead to our tables, and restrict nothing.
    void open_path(u64 gpa, unsigned level) {
        for (unsigned above = levels; above > level; --above) {
            reach(gpa, above);
            store(slot(gpa, above), Format::table(table_of(gpa, above - 1)));
        }
    }

    // An entry leads to guest memory or to our own tables, and to nothing else, unless the platform permits
    // raw ones.
    [[nodiscard]] static Status checked(const GuestMemory& memory, const abi::NestedEntry& what, u64 entry) {
        if ((what.flags & abi::nested_entry_raw) != 0) {
            return {};
        }
        const bool leaf = Format::is_leaf(entry, what.level);
        if ((what.flags & abi::nested_entry_table) != 0) { // a leaf there would map our tables
            return leaf && what.level < levels ? need(Permit::physical_addresses) : Status{};
        }
        if (!Format::may_be_present(entry)) {
            return {};
        }
        if (!leaf) { // guest memory would be a table, and its owner could map anything
            return refuse(abi::Outcome::bad_request,
                          "nested_entry: an entry that leads to a table needs the flag table, or raw");
        }
        const u64 size = x86::leaf_size(what.level);
        const u64 gpa = Format::address(entry) & ~(size - 1);
        const u64 physical = memory.to_physical(Format::address(entry)) & ~(size - 1);
        return memory.contains(gpa, size) && holds_physical(memory, physical, size)
                   ? Status{}
                   : refuse(abi::Outcome::bad_request,
                            "nested_entry: what the entry maps is not inside guest memory");
    }

    // As its client may see it.
    [[nodiscard]] static u64 told(const GuestMemory& memory, const Found& found) {
        const u64 entry = found.entry;
        const bool all = platform::permissions().has(Permit::physical_addresses);
        if (!Format::may_be_present(
                entry)) { // above level 1 it may still hold the address of a table of ours
            return all || found.level == 1 ? entry : entry & ~Format::address_mask;
        }
        const bool leaf = Format::is_leaf(entry, found.level);
        return (entry & ~Format::address_mask) |
               (leaf || all ? told_of_physical(memory, Format::address(entry)) : 0);
    }

    u64 pool_ = 0, pages_ = 0;
    u64 first_directory_ = 0, first_table_ = 0, directories_ = 0;
};

} // namespace refhv
