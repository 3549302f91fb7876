// SPDX-License-Identifier: MIT
// One page-table tree for every format: EPT, NPT, and later guest and shadow tables.
//
// Format is a trait that only encodes and decodes entries; Memory is a policy that allocates tables and
// reaches them:
//     static u64  Format::table(u64 pa);                        entry that points to the next table
//     static u64  Format::leaf(u64 pa, unsigned level, Rights); entry that maps a page
//     static bool Format::present(u64), Format::is_leaf(u64, unsigned level)
//     static u64  Format::address(u64)
//     bool Memory::allocate_table(u64& pa)   a zeroed 4-KByte table; false: exhausted
//     u64  Memory::load(u64 pa); void Memory::store(u64 pa, u64 entry)
// Levels count from 1 (4-KByte leaves): 2 maps 2 MBytes, 3 maps 1 GByte.
#pragma once

#include "refhv/types.hpp"

namespace refhv::x86 {

enum class Rights : u8 {
    none = 0,
    r = 1,
    w = 2,
    x = 4,
    all = 7,
};

[[nodiscard]] constexpr bool has(Rights a, Rights b) {
    return (static_cast<u8>(a) & static_cast<u8>(b)) != 0;
}

[[nodiscard]] constexpr u64 leaf_size(unsigned level) {
    return page_size << (9 * (level - 1));
}

template <class Format, class Memory>
class PageTable {
  public:
    static constexpr unsigned levels = 4;

    // Must be called first; false: exhausted.
    [[nodiscard]] bool create(Memory& memory) { return memory.allocate_table(root_); }
    [[nodiscard]] u64 root() const { return root_; }

    // Maps [address, address + size) to physical, with leaves of `level`; both aligned to them. What was
    // mapped there with a leaf of the same level is replaced. false: exhausted, or a larger leaf stands in
    // the way.
    [[nodiscard]] bool map(Memory& memory, u64 address, u64 physical, u64 size, unsigned level,
                           Rights rights) {
        for (u64 done = 0; done < size; done += leaf_size(level)) {
            u64 slot = 0;
            if (!find_slot(memory, address + done, level, slot)) {
                return false;
            }
            memory.store(slot, rights == Rights::none ? 0 : Format::leaf(physical + done, level, rights));
        }
        return true;
    }

    struct Mapping {
        u64 entry;
        unsigned level; // of the entry where the walk ended
    };

    // The entry that translates the address, or the not-present entry where the walk ends.
    [[nodiscard]] Mapping walk(Memory& memory, u64 address) const {
        u64 table = root_;
        for (unsigned level = levels;; --level) {
            const u64 entry = memory.load(slot_address(table, address, level));
            if (level == 1 || !Format::present(entry) || Format::is_leaf(entry, level)) {
                return {entry, level};
            }
            table = Format::address(entry);
        }
    }

    // Calls release(pa) for every table of the tree.
    template <class Release>
    void destroy(Memory& memory, Release release) {
        if (root_ != 0) {
            destroy_level(memory, root_, levels, release);
            root_ = 0;
        }
    }

  private:
    static u64 slot_address(u64 table, u64 address, unsigned level) {
        return table + 8 * ((address >> (12 + 9 * (level - 1))) & 511);
    }

    bool find_slot(Memory& memory, u64 address, unsigned leaf_level, u64& slot) {
        u64 table = root_;
        for (unsigned level = levels; level > leaf_level; --level) {
            const u64 at = slot_address(table, address, level);
            u64 entry = memory.load(at);
            if (Format::present(entry) && Format::is_leaf(entry, level)) {
                return false;
            }
            if (!Format::present(entry)) {
                u64 fresh = 0;
                if (!memory.allocate_table(fresh)) {
                    return false;
                }
                entry = Format::table(fresh);
                memory.store(at, entry);
            }
            table = Format::address(entry);
        }
        slot = slot_address(table, address, leaf_level);
        return true;
    }

    template <class Release>
    static void destroy_level(Memory& memory, u64 table, unsigned level, Release& release) {
        if (level > 1) {
            for (unsigned i = 0; i < 512; ++i) {
                const u64 entry = memory.load(table + 8 * i);
                if (Format::present(entry) && !Format::is_leaf(entry, level)) {
                    destroy_level(memory, Format::address(entry), level - 1, release);
                }
            }
        }
        release(table);
    }

    u64 root_ = 0;
};

} // namespace refhv::x86
