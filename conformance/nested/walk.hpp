// SPDX-License-Identifier: MIT
// Walks of the guest's own page tables through nested tables that restrict them. Each case has a guest table
// of its own, in a page of its own, at one level; every other table on its way is unrestricted.
#pragma once

#include "conformance/nested/access.hpp"

namespace refhv::front {

class WalkList {
  public:
    // Where the cases' tables lie: `regions` times 2 MBytes from AccessList::subject on.
    static client::Plan plan(u64 regions) { return AccessList::plan((regions + 1) * 512); }
    WalkList(client::Guest& guest, u64 regions);

    // What the walk finds in the entry under test.
    enum class Flags : u8 {
        set,            // nothing to do
        accessed_clear, // the walk sets A
        dirty_clear,    // level 1 only: a write, which sets D
    };
    struct Walk {
        unsigned level;
        Flags flags;
    };
    static constexpr Walk every_walk[] = {{1, Flags::set},
                                          {2, Flags::set},
                                          {3, Flags::set},
                                          {1, Flags::accessed_clear},
                                          {2, Flags::accessed_clear},
                                          {3, Flags::accessed_clear},
                                          {1, Flags::dirty_clear}};
    // A guest table of `level`, 1 to 3, in the page at `table`.
    void add(unsigned level, u64 table, Flags flags);
    // Guest-physical address of the entry under test in the table at `table`.
    [[nodiscard]] static constexpr u64 entry(u64 table) { return table + 8 * index; }

    std::vector<AccessList::Case>& run() { return list_.run(); }

  private:
    static constexpr u64 index = 5;
    void put(u64 gpa, u64 value);

    client::Guest& guest_;
    AccessList list_;
    u64 support_;   // unrestricted tables
    u64 used_[4]{}; // tables of each level so far
};

} // namespace refhv::front
