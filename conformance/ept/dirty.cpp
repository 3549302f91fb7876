// SPDX-License-Identifier: MIT
// Accessed and dirty flags for EPT, and the page-modification log.
#include "conformance/ept/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

constexpr u64 large_page = 512 * page_size;
constexpr u64 subject = AccessList::subject;
constexpr u64 every_page = client::layout::base_pages + 2 * 512;

// Writes a word to each of RDI pages from RSI on; R14 counts.
GUEST(guest_dirty, "1: mov %rdi, (%rsi)\n add $4096, %rsi\n inc %r14\n dec %rdi\n jnz 1b\n")
// The page behind RSI once more, and one that never was clean.
GUEST(guest_write_again, "mov %rdi, -4096(%rsi)\n mov %rdi, " REFHV_ASM(REFHV_SCRATCH) "\n")
// The same, each page twice, with reads of the pages behind.
GUEST(guest_dirty_twice, "1: mov %rdi, (%rsi)\n mov %rdi, 8(%rsi)\n mov 0x10000(%rsi), %rax\n"
                         "add $4096, %rsi\n inc %r14\n dec %rdi\n jnz 1b\n")

} // namespace

class EptDirty : public Ept {
  protected:
    // Runs one access of each kind to a page of its own, from `subject` on; the page after them is not
    // touched.
    static void each_access(Guest& guest) {
        AccessList list(guest);
        u64 page = subject;
        for (const Access access : every_access) {
            list.add(access, page);
            page += page_size;
        }
        for (const AccessList::Case& c : list.run()) {
            EXPECT_FALSE(c.exit) << name_of(c.access);
        }
    }
    [[nodiscard]] static bool writes(Access access) {
        return access != Access::read && access != Access::fetch;
    }
    static u64 flags_at(Guest& guest, u64 gpa, unsigned level) {
        return guest.nested_entry_at(gpa, level).entry & (accessed | dirty);
    }
};

TEST_F(EptDirty, flags_follow_the_access) {
    claim({.sdm = "SDM 3C 29.3.5"}, [&] {
        if (!accessed_dirty()) {
            GTEST_SKIP() << no_accessed_dirty;
        }
        Guest guest(host(), AccessList::plan(512));
        turn_on_accessed_dirty(guest);
        each_access(guest);
        u64 page = subject;
        for (const Access access : every_access) {
            EXPECT_EQ(flags_at(guest, page, 1), writes(access) ? accessed | dirty : accessed)
                << name_of(access);
            page += page_size;
        }
        EXPECT_EQ(flags_at(guest, page, 1) & dirty, 0u) << "not written; A may be set ahead of an access";
        for (const unsigned level : {2u, 3u, 4u}) { // bit 9 is ignored where the entry leads on
            EXPECT_EQ(flags_at(guest, subject, level) & accessed, accessed) << "level " << level;
        }
        combinations(std::size(every_access) + 4);
    });
}

TEST_F(EptDirty, flags_of_a_2m_leaf) {
    claim({.sdm = "SDM 3C 29.3.5"}, [&] {
        if (!accessed_dirty() || !offers(16)) {
            GTEST_SKIP() << "no EPT leaves of 2 MBytes, or " << no_accessed_dirty;
        }
        for (const Access access : every_access) {
            Guest guest(host(), AccessList::plan(1024));
            turn_on_accessed_dirty(guest);
            guest.nested_entry(subject, 2, ept_leaf(subject, 2, may_all));
            guest.nested_entry(subject + large_page, 2, ept_leaf(subject + large_page, 2, may_all));
            AccessList list(guest);
            list.add(access, subject + 300 * page_size);
            list.run();
            // Putting the RET of a fetch there is the core's doing, not an access of the guest's.
            EXPECT_EQ(flags_at(guest, subject, 2), writes(access) ? accessed | dirty : accessed)
                << name_of(access);
            EXPECT_EQ(flags_at(guest, subject + large_page, 2) & dirty, 0u) << "not written";
        }
        combinations(std::size(every_access));
    });
}

// A table of the guest's whose own flags are all set: using it is a write nevertheless.
TEST_F(EptDirty, tables_of_the_guest_become_dirty) {
    claim({.sdm = "SDM 3C 29.3.5"}, [&] {
        if (!accessed_dirty()) {
            GTEST_SKIP() << no_accessed_dirty;
        }
        Guest guest(host(), {.arena_pages = 1});
        turn_on_accessed_dirty(guest);
        guest.load({});
        expect_stopped(guest.run({}));
        for (const u64 table : {client::layout::pml4, client::layout::pdpt, client::layout::page_directory,
                                client::layout::page_tables}) {
            EXPECT_EQ(flags_at(guest, table, 1), accessed | dirty) << std::hex << table;
        }
        EXPECT_EQ(flags_at(guest, client::layout::code, 1), accessed) << "fetched only";
    });
}

TEST_F(EptDirty, no_flag_is_set_without_bit_6_of_the_ept_pointer) {
    claim({.sdm = "SDM 3C 29.3.5, 25.6.11"}, [&] {
        Guest guest(host(), AccessList::plan(512));
        each_access(guest);
        u64 page = subject;
        for (const Access access : every_access) {
            EXPECT_EQ(flags_at(guest, page, 1), 0u) << name_of(access);
            page += page_size;
        }
        for (const unsigned level : {2u, 3u, 4u}) {
            EXPECT_EQ(flags_at(guest, subject, level), 0u) << "level " << level;
        }
        combinations(std::size(every_access) + 3);
    });
}

class EptLog : public EptDirty {
  protected:
    static constexpr u64 log = client::layout::arena; // a page of the guest's own
    static constexpr unsigned enable_pml = 17;
    static constexpr const char* missing = "no page-modification log (secondary control 17)";

    // A guest whose pages are all dirty already, but those from `subject` on; `index` entries and one are
    // free.
    static Guest logging(u64 index, abi::Action when_full = abi::Action::stop) {
        client::Plan plan;
        plan.arena_pages = 2 * 512;
        plan.policy = {answer(Reason::page_modification_log_full, when_full)};
        Guest guest(host(), plan);
        constexpr u64 base = client::layout::base;
        guest.nested_entry(base, 1, ept_leaf(base, 1, may_all) | accessed | dirty, 0, every_page, page_size);
        guest.nested_entry(subject, 1, ept_leaf(subject, 1, may_all), 0, 512, page_size);
        turn_on_accessed_dirty(guest);
        guest.field(secondary_controls, 4, guest.read_field(secondary_controls, 4) | u64{1} << enable_pml);
        guest.field(pml_address, 8, guest.host_physical(log));
        guest.field(pml_index, 2, index);
        guest.state.gpr[abi::rsi] = subject;
        guest.state.gpr[abi::r14] = 0;
        return guest;
    }
    // Without the guest's state, which would be written once more.
    static u64 field_now(Guest& guest, u32 field) { return guest.read_field(field, 8); }
};

TEST_F(EptLog, first_writes_are_logged_in_order) {
    claim({.sdm = "SDM 3C 29.3.6"}, [&] {
        if (!offers_secondary(enable_pml)) {
            GTEST_SKIP() << missing;
        }
        constexpr u64 pages = 16;
        Guest guest = logging(511);
        guest.state.gpr[abi::rdi] = pages;
        guest.load(guest_dirty_twice);
        expect_stopped(guest.run({}));
        EXPECT_EQ(field_now(guest, pml_index), 511 - pages) << "one entry a page, none for reads";
        const auto entries = guest.read64(log, 512);
        for (u64 i = 0; i < pages; ++i) {
            EXPECT_EQ(entries[511 - i], subject + i * page_size)
                << "from the last entry down, bits 11:0 clear";
        }
        combinations(pages);
    });
}

TEST_F(EptLog, full_log_exits_before_the_write) {
    claim({.sdm = "SDM 3C 29.3.6"}, [&] {
        if (!offers_secondary(enable_pml)) {
            GTEST_SKIP() << missing;
        }
        constexpr u64 room = 3;
        Guest guest = logging(room - 1);
        guest.state.gpr[abi::rdi] = 8;
        guest.load(guest_dirty);
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::page_modification_log_full);
        EXPECT_EQ(r.reply.exit.raw_reason, 62u);
        EXPECT_EQ(r.reply.state.gpr[abi::r14], room) << "writes done";
        EXPECT_EQ(r.reply.state.rip, client::layout::code) << "at the write that found no room";
        EXPECT_EQ(guest.read64(subject + room * page_size, 1).front(), 0u) << "nothing was written";
        EXPECT_EQ(flags_at(guest, subject + room * page_size, 1) & dirty, 0u);
        EXPECT_EQ(field_now(guest, pml_index), 0xffffu);
        const auto entries = guest.read64(log, room);
        for (u64 i = 0; i < room; ++i) {
            EXPECT_EQ(entries[room - 1 - i], subject + i * page_size);
        }
    });
}

// Only where a flag must be set is there anything to log.
TEST_F(EptLog, full_log_lets_dirty_pages_be_written) {
    claim({.sdm = "SDM 3C 29.3.6"}, [&] {
        if (!offers_secondary(enable_pml)) {
            GTEST_SKIP() << missing;
        }
        constexpr u64 room = 3;
        Guest guest = logging(room - 1);
        guest.state.gpr[abi::rdi] = room;
        guest.load(guest_dirty, 1, guest_write_again);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::page_modification_log_full), 0u);
        EXPECT_EQ(field_now(guest, pml_index), 0xffffu);
    });
}

TEST_F(EptLog, emptied_log_goes_on) {
    claim({.sdm = "SDM 3C 29.3.6"}, [&] {
        if (!offers_secondary(enable_pml)) {
            GTEST_SKIP() << missing;
        }
        constexpr u64 pages = 512;
        Guest guest = logging(9, abi::Action::map_and_retry);
        guest.state.gpr[abi::rdi] = pages;
        guest.load(guest_dirty);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::page_modification_log_full), 1u) << "10 entries, then 502 of 512";
        EXPECT_EQ(r.reply.state.gpr[abi::r14], pages);
        EXPECT_EQ(field_now(guest, pml_index), 511 - (pages - 10));
        EXPECT_EQ(guest.read64(log + 8 * 511, 1).front(), subject + 10 * page_size);
    });
}

} // namespace refhv::front
