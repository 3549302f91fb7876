// SPDX-License-Identifier: MIT
// The oracle of the paging table, against single sentences of the manuals; and the table's own size.
#include "conformance/paging/cases.hpp"
#include "conformance/paging/oracle.hpp"

#include <gtest/gtest.h>

namespace refhv::front {
namespace {

constexpr PagingMachine machine{.levels = 4,
                                .physical_bits = 40,
                                .has_1g_pages = true,
                                .has_smep = true,
                                .has_smap = true,
                                .has_pku = true,
                                .amd = false,
                                .has_cet = false};
constexpr EntryCode open = entry_p | entry_rw | entry_us;
constexpr u16 all_levels = 0x0f00;

EntrySet page(EntryCode leaf, EntryCode upper = open) {
    return {.entry = {0, leaf, upper, open, open, 0}, .leaf = 1, .zero = 0};
}

void expect_done(const EntrySet& set, u64 control, Try t) {
    const Predicted p = predict(machine, set, control, t);
    EXPECT_EQ(p.result, all_levels | (is_write(t) ? result_dirty : 0)) << to_string(control, t);
    EXPECT_TRUE(p.admits(p.result));
    EXPECT_FALSE(p.admits(p.result ^ result_dirty)) << "D is set by a write and by nothing else";
    EXPECT_FALSE(p.admits(p.result ^ result_accessed_1));
}

void expect_fault(const EntrySet& set, u64 control, Try t, u16 error) {
    const Predicted p = predict(machine, set, control, t);
    EXPECT_EQ(p.result, result_fault | error) << to_string(control, t) << "; " << to_string(set);
    EXPECT_FALSE(p.admits(p.result | result_dirty)) << "a write that faults has not happened";
}

TEST(PagingOracle, an_open_page_admits_everything_and_sets_the_flags) {
    for (unsigned i = 0; i < tries; ++i) {
        expect_done(page(open), control_wp | control_nxe, static_cast<Try>(i));
    }
}

TEST(PagingOracle, an_absent_page_says_who_and_what_but_not_p) {
    expect_fault(page(0), 0, Try::supervisor_read, 0);
    expect_fault(page(0), 0, Try::user_write, 6);
    expect_fault(page(0), 0, Try::user_fetch, 4);
    expect_fault(page(0), control_nxe, Try::user_fetch, 0x14);
    expect_fault(page(0), control_smep, Try::supervisor_fetch, 0x10);
}

TEST(PagingOracle, the_supervisor_writes_against_rw_unless_wp) {
    expect_done(page(entry_p), 0, Try::supervisor_write);
    expect_fault(page(entry_p), control_wp, Try::supervisor_write, 3);
    expect_fault(page(entry_p | entry_us), 0, Try::user_write, 7);
}

TEST(PagingOracle, the_narrowest_entry_decides) {
    expect_fault(page(open, entry_p | entry_rw), 0, Try::user_read, 5);
    expect_fault(page(open, entry_p | entry_us), control_wp, Try::supervisor_write, 3);
    expect_fault(page(open, open | entry_nx), control_nxe, Try::user_fetch, 0x15);
}

TEST(PagingOracle, smep_and_smap_keep_the_supervisor_off_user_pages) {
    expect_fault(page(open), control_smep, Try::supervisor_fetch, 0x11);
    expect_fault(page(open), control_smap, Try::supervisor_read, 1);
    expect_done(page(open), control_smap | control_ac, Try::supervisor_read);
    expect_done(page(entry_p | entry_rw), control_smap | control_smep, Try::supervisor_fetch);
    expect_done(page(open), control_smap | control_smep, Try::user_fetch);
}

TEST(PagingOracle, a_reserved_bit_comes_before_rights_and_after_presence) {
    expect_fault(page(with_bit(open, 45)), 0, Try::user_read, 0xd);
    expect_fault(page(with_bit(entry_p, 45)), control_wp, Try::user_write, 0xf);
    expect_fault(page(with_bit(entry_rw, 45)), 0, Try::supervisor_read, 0);
    expect_fault(page(open | entry_nx), 0, Try::supervisor_read, 9); // XD without NXE
    EntrySet top = page(open);
    top.entry[4] = with_bit(top.entry[4], 7);
    expect_fault(top, 0, Try::supervisor_read, 9);
}

TEST(PagingOracle, bit_8_above_pages_is_reserved_on_amd_only) {
    EntrySet set = page(open);
    set.entry[3] = with_bit(set.entry[3], 8);
    expect_done(set, 0, Try::user_read);
    PagingMachine amd = machine;
    amd.amd = true;
    EXPECT_EQ(predict(amd, set, 0, Try::user_read).result, result_fault | 0xd);
}

TEST(PagingOracle, with_cet_the_dirty_flag_of_a_leaf_without_write_is_there_before) {
    PagingMachine cet = machine;
    cet.has_cet = true;
    const Try t = Try::supervisor_write;
    EXPECT_EQ(predict(cet, page(entry_p | entry_us), 0, t).result, all_levels);
    EXPECT_EQ(predict(machine, page(entry_p | entry_us), 0, t).result, all_levels | result_dirty);
    EXPECT_EQ(predict(cet, page(open, entry_p | entry_us), 0, t).result, all_levels | result_dirty);
}

TEST(PagingOracle, keys_concern_data_accesses_to_user_addresses) {
    constexpr u64 deny_all = u64{1} << 2 << 32, deny_write = u64{2} << 2 << 32; // AD and WD of key 1
    const EntrySet set = page(with_key(open, 1));
    expect_fault(set, control_pke | deny_all, Try::user_read, 0x25);
    expect_fault(set, control_pke | deny_all, Try::supervisor_read, 0x21);
    expect_done(set, control_pke | deny_all, Try::user_fetch);
    expect_done(set, deny_all, Try::user_read);
    expect_done(set, control_pke | deny_write, Try::user_read);
    expect_fault(set, control_pke | deny_write, Try::user_write, 0x27);
    expect_done(set, control_pke | deny_write, Try::supervisor_write);
    expect_fault(set, control_pke | control_wp | deny_write, Try::supervisor_write, 0x23);
    expect_done(page(with_key(entry_p | entry_rw, 1)), control_pke | deny_all, Try::supervisor_read);
}

TEST(PagingOracle, accessed_flags_of_a_walk_that_faults_are_open_down_to_the_fault) {
    const Predicted p = predict(machine, page(0), 0, Try::user_read);
    EXPECT_TRUE(p.admits(p.result | result_accessed_1 << 3 | result_accessed_1 << 2));
    EXPECT_FALSE(p.admits(p.result | result_accessed_1)) << "of an entry that is not present";
}

// No set twice, and the whole as large as the acceptance of the paging families asks.
TEST(PagingCases, are_different_and_many) {
    u64 sum = 0;
    for (const unsigned leaf : {1u, 2u, 3u}) {
        for (const PagingBatch& batch : rights_batches(machine, leaf)) {
            for (usize i = 0; i < batch.sets.size(); ++i) {
                for (usize j = 0; j < i; ++j) {
                    ASSERT_NE(batch.sets[i].entry, batch.sets[j].entry) << to_string(batch.sets[i]);
                }
            }
            sum += batch.combinations();
        }
    }
    EXPECT_GE(sum, 50'000u);
}

} // namespace
} // namespace refhv::front
