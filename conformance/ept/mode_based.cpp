// SPDX-License-Identifier: MIT
// Mode-based execute control for EPT: bit 2 of an entry is about fetches from supervisor-mode linear
// addresses and bit 10 about those from user-mode ones, which the guest's own tables tell apart (SDM 3A 4.6),
// not the CPL: the guests here are all of ring 0.
#include "conformance/ept/case.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

constexpr u64 mode_based = 1u << 22; // of the secondary controls
constexpr u32 may_execute_user = 1u << 10;
constexpr u64 base = client::layout::base, large_page = 512 * page_size;
constexpr const char* section = "SDM 3C 29.3.2, 29.3.3.2, 28.2.1 (table 28-7)";

GUEST(guest_reads, "mov (%rsi), %al\n")

} // namespace

class EptModeBased : public Ept {
  protected:
    static bool is_offered() { return front::offers(hello(), vmcs::secondary_controls, mode_based); }
    static constexpr const char* not_offered =
        "no mode-based execute control for EPT (IA32_VMX_PROCBASED_CTLS2[54])";

    // Turns the control on. The guest itself, `pages` of it from its first on, may fetch from everywhere.
    static void turn_on(Guest& guest, u64 pages) {
        constexpr u32 all = may_all | may_execute_user;
        change(guest, vmcs::secondary_controls, mode_based);
        for (const unsigned level : {4u, 3u}) {
            guest.nested_entry(base, level, all, abi::nested_entry_table);
        }
        guest.nested_entry(base, 2, all, abi::nested_entry_table, static_cast<u32>((pages + 511) / 512));
        guest.nested_entry(base, 1, ept_leaf(base, 1, all), 0, static_cast<u32>(pages), page_size);
    }

    // The rights that an entry may have without being misconfigured (SDM 3C 29.3.3.1).
    static std::vector<u32> entry_rights() {
        std::vector<u32> out;
        for (const u32 data : {0u, may_read, may_read | may_write}) {
            for (const u32 execute : {0u, may_execute, may_execute_user, may_execute | may_execute_user}) {
                if (data != 0 || execute == 0 || execute_only()) {
                    out.push_back(data | execute);
                }
            }
        }
        return out;
    }

    // What is due for an access by an address of this mode.
    static std::optional<Qualification> due(Access access, u32 rights, bool user) {
        const bool executes = (rights & (user ? may_execute_user : may_execute)) != 0;
        auto q = violation(access, (rights & (may_read | may_write)) | (executes ? may_execute : 0));
        if (q) {
            constexpr u64 executable = 1u << 5, user_executable = 1u << 6, user_address = 1u << 9;
            q->mask |= user_executable;
            q->value &= ~(executable | (user ? 0 : user_address));
            q->value |= ((rights & may_execute) != 0 ? executable : 0) |
                        ((rights & may_execute_user) != 0 ? user_executable : 0);
        }
        return q;
    }

    static std::string text(u32 rights) {
        return rights_text(rights) + ((rights & may_execute_user) != 0 ? "u" : "-");
    }

    // Every rights of an entry of level 1 under those of level 2 that take something away from a fetch, or
    // from a write, or all; for addresses of both modes.
    static void check(std::initializer_list<Access> accesses) {
        constexpr u32 may_access = may_read | may_write;
        const std::vector<u32> above{may_all | may_execute_user,
                                     may_all,
                                     may_access | may_execute_user,
                                     may_access,
                                     may_read | may_execute | may_execute_user,
                                     0};
        Guest guest(host(), AccessList::plan(above.size() * 512));
        turn_on(guest, (AccessList::subject - base) / page_size + above.size() * 512);
        AccessList list(guest);
        struct Of {
            u32 high, low;
            bool user;
        };
        std::vector<Of> of;
        for (usize i = 0; i < above.size(); ++i) {
            const u64 region = AccessList::subject + i * large_page;
            u64 page = region;
            for (const u32 low : entry_rights()) {
                for (const Access access : accesses) {
                    for (const bool user : {false, true}) {
                        guest.nested_entry(page, 1, ept_leaf(page, 1, low));
                        user ? list.add(access, page) : list.add_supervisor(access, page);
                        of.push_back({above[i], low, user});
                        page += page_size;
                    }
                }
            }
            guest.nested_entry(region, 2, above[i], abi::nested_entry_table);
        }
        Differences differences;
        const auto& cases = list.run();
        for (usize i = 0; i < cases.size(); ++i) {
            const auto [high, low, user] = of[i];
            compare(cases[i], due(cases[i].access, high & low, user),
                    cases[i].owner + AccessList::offset(cases[i].access),
                    text(high) + " over " + text(low) + (user ? ", user-mode" : ", supervisor-mode"),
                    differences);
        }
        combinations(cases.size());
    }
};

TEST_F(EptModeBased, fetches_obey_the_bit_of_their_addresses_mode) {
    claim({.sdm = section}, [&] {
        if (!is_offered()) {
            GTEST_SKIP() << not_offered;
        }
        check({Access::fetch});
    });
}

TEST_F(EptModeBased, reads_and_writes_obey_neither_and_their_violations_tell_both) {
    claim({.sdm = section}, [&] {
        if (!is_offered()) {
            GTEST_SKIP() << not_offered;
        }
        check({Access::read, Access::write});
    });
}

// Nothing is there without the control, and so nothing is misconfigured; with it the entry is present, and
// its reserved bits count, whether an entry may lack R or not.
TEST_F(EptModeBased, bit_10_alone_makes_an_entry_present) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.1, 29.3.3.2"}, [&] {
        if (!is_offered()) {
            GTEST_SKIP() << not_offered;
        }
        constexpr u64 page = AccessList::subject, pages = (page - base) / page_size + 1;
        for (const bool on : {false, true}) {
            for (unsigned level = 4; level >= 1; --level) {
                SCOPED_TRACE(std::string(on ? "with" : "without") + " the control, level " +
                             std::to_string(level));
                Guest guest(host(), {.arena_pages = (page - client::layout::arena) / page_size + 1});
                if (on) {
                    turn_on(guest, pages);
                }
                // Memory type 7, or a bit that is reserved where an entry leads on (tables 29-1, 29-2, 29-4).
                const u64 reserved = level == 1 ? u64{7} << 3 : u64{1} << 3;
                const u64 address = level == 1 ? guest.host_physical(page) : 0;
                guest.state.gpr[abi::rsi] = page;
                guest.load(guest_reads);
                guest.nested_entry(page, level, address | may_execute_user | reserved,
                                   level == 1 ? abi::nested_entry_raw : abi::nested_entry_table);
                const auto r = guest.run({});
                ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason),
                          on ? Reason::nested_misconfig : Reason::nested_violation);
                EXPECT_EQ(r.reply.exit.guest_physical, level > 2 ? client::layout::pml4 : page);
                EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            }
        }
        combinations(8);
    });
}

// As without bit 10: an entry that may be written must be readable.
TEST_F(EptModeBased, writes_without_reads_are_misconfigured_whatever_bit_10_says) {
    claim({.sdm = "SDM 3C 29.3.3.1"}, [&] {
        if (!is_offered()) {
            GTEST_SKIP() << not_offered;
        }
        constexpr u64 page = AccessList::subject, pages = (page - base) / page_size + 1;
        u64 tried = 0;
        for (const u32 execute : {0u, may_execute, may_execute_user, may_execute | may_execute_user}) {
            for (unsigned level = 4; level >= 1; --level) {
                const u32 rights = may_write | execute;
                SCOPED_TRACE(text(rights) + " at level " + std::to_string(level));
                Guest guest(host(), {.arena_pages = (page - client::layout::arena) / page_size + 1});
                turn_on(guest, pages);
                guest.state.gpr[abi::rsi] = page;
                guest.load(guest_reads);
                guest.nested_entry(page, level, level == 1 ? ept_leaf(page, 1, rights) : u64{rights},
                                   level == 1 ? 0u : u32{abi::nested_entry_table});
                const auto r = guest.run({});
                ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_misconfig);
                EXPECT_EQ(r.reply.exit.guest_physical, level > 2 ? client::layout::pml4 : page);
                EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
                ++tried;
            }
        }
        combinations(tried);
    });
}

} // namespace refhv::front
