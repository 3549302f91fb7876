// SPDX-License-Identifier: MIT
// What one exit of a shadowed guest may cost, however the guest lays out its tables: counted in looks at
// shadow entries, which is what all the work consists of.
#include "conformance/test/core/shadow_machine.hpp"

#include <gtest/gtest.h>

namespace refhv::shadow::testing {
namespace {

constexpr u64 tables_at = HostTables::begin;

struct Rig {
    explicit Rig(u32 tables, u64 guest_pages = 4)
        : pages(tables), links(tables * 512), frames(guest_pages), regions(2) {
        start();
    }
    void start(u32 epoch = 0) { pool.init(tables_at, pages, links, frames, regions, epoch); }
    std::vector<Page> pages;
    std::vector<Link> links;
    std::vector<Counted> frames, regions;
    Pool pool;
};

TEST(ShadowPool, takes_any_entry_out_of_a_list) {
    Rig rig(8);
    const auto slot = [](u32 n) { return tables_at + 8 * n; };
    u32& list = rig.pool.frame(1);
    for (const u32 n : {7u, 600u, 3u, 1000u}) {
        rig.pool.push(list, slot(n));
    }
    const auto now = [&] {
        std::vector<u64> all;
        for (u32 n = list; n != nil; n = rig.pool.next(n)) {
            all.push_back((rig.pool.slot_of(n) - tables_at) / 8);
        }
        return all;
    };
    EXPECT_EQ(now(), (std::vector<u64>{1000, 3, 600, 7}));
    rig.pool.remove(list, slot(600)); // amid
    EXPECT_EQ(now(), (std::vector<u64>{1000, 3, 7}));
    rig.pool.remove(list, slot(1000)); // first
    EXPECT_EQ(now(), (std::vector<u64>{3, 7}));
    rig.pool.remove(list, slot(7)); // last
    EXPECT_EQ(now(), (std::vector<u64>{3}));
    rig.pool.remove(list, slot(3));
    EXPECT_EQ(list, nil);
}

TEST(ShadowPool, no_bucket_takes_more_than_its_share) {
    Rig rig(2048);
    u64 made = 0;
    for (u64 n = 0; n < 2000; ++n) { // every guest table 1 GByte from the next: one bucket
        made += rig.pool.allocate({.guest = n << 30, .level = 1}) != nil ? 1 : 0;
    }
    EXPECT_LE(made, 64u);
    EXPECT_NE(rig.pool.allocate({.guest = 0x1000, .level = 1}), nil) << "others have theirs";
}

// 2^32 clears later an epoch is the same again. That many would take long: the last of them are done here,
// and as many before as it takes to look at every number once.
TEST(ShadowPool, what_an_epoch_of_the_same_number_left_is_forgotten) {
    Rig rig(8);
    rig.start(100);
    rig.pool.push(rig.pool.frame(2), tables_at + 8);
    rig.pool.push(rig.pool.region(0), tables_at + 16);
    ++rig.pool.tables_in_region(0);
    rig.start(84);
    for (u32 n = 0; n < 16; ++n) {
        rig.pool.clear();
    }
    EXPECT_EQ(rig.pool.frame(2), nil);
    EXPECT_EQ(rig.pool.region(0), nil);
    EXPECT_EQ(rig.pool.tables_in_region(0), 0u);
}

TEST(ShadowPool, a_page_that_nobody_wants_is_not_found_and_comes_back) {
    Rig rig(4);
    const Key key{.guest = 0x5000, .level = 1};
    const u32 page = rig.pool.allocate(key);
    rig.pool.abandon(page);
    EXPECT_EQ(rig.pool.find(key), nil);
    EXPECT_EQ(rig.pool.take_abandoned(), page);
    EXPECT_EQ(rig.pool.take_abandoned(), nil);
    rig.pool.release(page);
    EXPECT_EQ(rig.pool.allocate(key), page);
}

// Host tables that count how often they are looked at.
struct CountedTables : HostTables {
    using HostTables::HostTables;
    mutable u64 looks = 0;
    [[nodiscard]] u64 load(u64 pa) const {
        ++looks;
        return HostTables::load(pa);
    }
    void store(u64 pa, u64 entry) {
        ++looks;
        HostTables::store(pa, entry);
    }
    void zero(u64 table) { HostTables::zero(table); }
};

// A guest in long mode whose tables are written by its author, at these frames of its memory.
class HostileGuest : public ::testing::Test {
  protected:
    static constexpr u32 tables = 2048;
    static constexpr u64 guest_pages = 8192;
    // What one exit may look at: 32 tables of 512 entries, twice each, and as much for the lists.
    static constexpr u64 bound = 32 * (512 * 3 + 2 * 1024);

    HostileGuest()
        : ram_(guest_pages), tables_(tables), pages_(tables), links_(tables * 512), frames_(guest_pages),
          regions_(2 * (guest_pages / 512 + 1)), mmu_(ram_, tables_, pool_) {
        pool_.init(HostTables::begin, pages_, links_, frames_, regions_);
    }

    void start(u64 cr3) {
        const PagingState state{.cr0 = x86::cr0::pg | x86::cr0::pe | x86::cr0::wp,
                                .cr3 = cr3,
                                .cr4 = x86::cr4::pae,
                                .efer = x86::efer::lma | x86::efer::lme,
                                .rflags = 2,
                                .pdpte = {},
                                .pkru = 0,
                                .physical_bits = 40,
                                .has_1g_pages = false,
                                .has_pse36 = false,
                                .amd = false};
        ASSERT_TRUE(mmu_.reset(state, true));
    }

    static u64 frame(u64 n) { return guest_base + n * page_size; }
    void entry(u64 table, u64 index, u64 value) { ram_.write<u64>(frame(table) + 8 * index, value); }
    static constexpr u64 open = pte::p | pte::rw | pte::us | pte::a | pte::d;

    // The work of one exit.
    template <class F>
    u64 work(F f) {
        tables_.looks = 0;
        f();
        worst_ = std::max(worst_, tables_.looks);
        return tables_.looks;
    }
    Answer touch(u64 gva, bool write) {
        Answer answer{};
        work([&] {
            Walk w{};
            answer = mmu_.page_fault(gva, {.write = write, .fetch = false, .user = false}, w);
        });
        return answer;
    }

    GuestRam ram_;
    CountedTables tables_;
    std::vector<Page> pages_;
    std::vector<Link> links_;
    std::vector<Counted> frames_, regions_;
    Pool pool_;
    Mmu<GuestRam, CountedTables> mmu_;
    u64 worst_ = 0;
};

// Frames 0 to 2 are the upper tables, 16 to 527 the page tables of one GByte; each maps 512 pages.
TEST_F(HostileGuest, with_every_table_out_of_step_loads_cr3) {
    entry(0, 0, frame(1) | open);
    entry(1, 0, frame(2) | open);
    for (u64 t = 0; t < 512; ++t) {
        entry(2, t, frame(16 + t) | open);
        for (u64 i = 0; i < 512; ++i) { // the tables themselves, and what lies behind them
            entry(16 + t, i, frame(i + 16) | open);
        }
    }
    start(frame(0));
    for (u64 t = 0; t < 512; ++t) { // every table shadowed, some of its entries filled
        for (u64 i = 0; i < 512; i += 16) {
            ASSERT_EQ(touch((t << 21) + (i << 12), false), Answer::retry);
        }
    }
    for (u64 i = 0; i < 512; ++i) { // and written
        ASSERT_EQ(touch(i << 12, true), Answer::retry);
    }
    const u64 load = work([&] { ASSERT_TRUE(mmu_.load_cr3(frame(0))); });
    RecordProperty("load", std::to_string(load));
    RecordProperty("worst", std::to_string(worst_));
    EXPECT_LE(worst_, bound);
}

// One page, mapped over and over, becomes a table: each of its mappings has to lose the right to write.
TEST_F(HostileGuest, makes_a_table_of_a_page_that_is_mapped_everywhere) {
    constexpr u64 victim = 8000;
    entry(0, 0, frame(1) | open);
    entry(1, 0, frame(2) | open);
    for (u64 t = 0; t < 256; ++t) {
        entry(2, t, frame(16 + t) | open);
        for (u64 i = 0; i < 512; ++i) {
            entry(16 + t, i, frame(victim) | open);
        }
    }
    entry(2, 300, frame(victim) | open);
    start(frame(0));
    for (u64 page = 0; page < 256 * 512; ++page) {
        ASSERT_EQ(touch(page << 12, true), Answer::retry);
    }
    worst_ = 0;
    entry(victim, 0, frame(100) | open);
    ASSERT_EQ(touch(u64{300} << 21, false), Answer::retry);
    RecordProperty("worst", std::to_string(worst_));
    EXPECT_LE(worst_, bound);
}

// 120 large pages in parts, each part filled, lose the directory that leads to them.
TEST_F(HostileGuest, takes_away_many_large_pages_in_parts) {
    constexpr u64 most = 120;
    entry(0, 0, frame(1) | open);
    entry(1, 0, frame(2) | open);
    entry(1, 1, frame(3) | open);
    entry(2, 0, frame(4) | open);
    entry(4, 0, frame(3) | open);                  // where the guest writes the directory
    for (u64 region = 1; region <= 15; ++region) { // a table in each, so that it is mapped in parts
        entry(2, region, frame(region * 512) | open);
        entry(region * 512, 0, frame(100) | open);
    }
    for (u64 i = 0; i < most; ++i) { // PWT, PCD, PAT: no two alike
        const u64 type = (i / 15 & 1) << 3 | (i / 30 & 1) << 4 | (i / 60 & 1) << 12;
        entry(3, i, frame((1 + i % 15) * 512) | open | pte::ps | type);
    }
    start(frame(0));
    for (u64 region = 1; region <= 15; ++region) {
        ASSERT_EQ(touch(region << 21, false), Answer::retry);
    }
    for (u64 i = 0; i < most; ++i) {
        for (u64 page = 0; page < 512; ++page) {
            ASSERT_EQ(touch((u64{1} << 30) + (i << 21) + (page << 12), false), Answer::retry);
        }
    }
    ASSERT_EQ(touch(0, true), Answer::retry);
    for (u64 i = 0; i < most; ++i) {
        entry(3, i, 0);
    }
    worst_ = 0;
    const u64 load = work([&] { ASSERT_TRUE(mmu_.load_cr3(frame(0))); });
    RecordProperty("load", std::to_string(load));
    EXPECT_GT(load, most * 3) << "there was nothing to drop";
    EXPECT_LE(worst_, bound);
}

} // namespace
} // namespace refhv::shadow::testing
