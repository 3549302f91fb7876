// SPDX-License-Identifier: MIT
// Many accesses in one run: a guest that walks a list of addresses and touches each in its own way. The
// policy steps over an access that the nested tables refuse, so that every case stands alone and nothing is
// repaired in between; the log of exits says what became of each.
#pragma once

#include "conformance/nested/case.hpp"
#include "refhv/front/differences.hpp"

#include <optional>
#include <sstream>

namespace refhv::front {

enum class Access : u8 {
    read,
    write,
    modify,        // read-modify-write
    modify_locked, // the same with LOCK
    fetch,
};
inline constexpr Access every_access[] = {Access::read, Access::write, Access::modify, Access::modify_locked,
                                          Access::fetch};
[[nodiscard]] const char* name_of(Access access);

// The memory of such a guest, from layout::arena on: its tables for the test addresses, its list, the page on
// which a refused fetch lands; then, from the next 2 MBytes on, the subject's pages.
class AccessList {
  public:
    static constexpr u64 subject = client::layout::arena + 512 * page_size;
    static constexpr u64 max_cases = 1024;

    // `subject_pages` from `subject` on are the claim's own.
    static client::Plan plan(u64 subject_pages, abi::PageSize nested = abi::PageSize::k4);
    explicit AccessList(client::Guest& guest);

    // An access to the page at `gpa`, by a linear address of its own. One case a page.
    void add(Access access, u64 gpa);
    // The same by a supervisor-mode address (SDM 3A 4.6).
    void add_supervisor(Access access, u64 gpa);
    // An access to any linear address of the guest's; the exit that it may cause concerns the page at
    // `owner`.
    void add(Access access, u64 linear, u64 owner);

    struct Case {
        Access access;
        u64 linear;
        u64 owner;
        std::optional<abi::Exit> exit{}; // of run()
    };
    // One exit at most a case, or a failure is added.
    std::vector<Case>& run();
    // Guest-physical address that a data case of add(access, gpa) touches.
    [[nodiscard]] static u64 offset(Access access) { return access == Access::fetch ? 0xfff : 0x120; }

  private:
    void add_mapped(Access access, u64 gpa, u64 entry_bits);

    client::Guest& guest_;
    std::vector<u64> entries_; // of the tables for the test addresses
    std::vector<Case> cases_;
};

// "w-x" and the like.
[[nodiscard]] std::string rights_text(u32 rights);

} // namespace refhv::front
