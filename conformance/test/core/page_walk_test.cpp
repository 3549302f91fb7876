// SPDX-License-Identifier: MIT
// The walk in every format, on a memory that remembers every access: how many, in which order, how wide, and
// what a walk of the guest writes.
#include "refhv/shadow/guest_walk.hpp"
#include "refhv/shadow/table_set.hpp"
#include "refhv/svm/npt.hpp"
#include "refhv/vmx/ept.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace refhv {
namespace {

struct Reference {
    u64 at;
    unsigned bytes;
    bool write = false;
    bool operator==(const Reference&) const = default;
};

void PrintTo(const Reference& r, std::ostream* out) {
    *out << (r.write ? "write " : "read ") << r.bytes << " at " << std::hex << r.at;
}

struct Memory {
    std::map<u64, u64> entries;
    std::vector<Reference> seen;
    u64 limit = ~u64{0};

    bool contains(u64 at, u64 size) { return at + size <= limit; }
    u64 load(u64 at) {
        seen.push_back({at, 8});
        return entries[at];
    }
    u32 load32(u64 at) {
        seen.push_back({at, 4});
        return static_cast<u32>(entries[at]);
    }
    bool exchange(u64 at, u64 old, u64 fresh) {
        seen.push_back({at, 8, true});
        const bool same = entries[at] == old;
        entries[at] = same ? fresh : entries[at];
        return same;
    }
    bool exchange32(u64 at, u32 old, u32 fresh) {
        const bool same = exchange(at, old, fresh);
        seen.back().bytes = 4;
        return same;
    }
    std::vector<Reference> reads() const {
        std::vector<Reference> some;
        for (const Reference& r : seen) {
            if (!r.write) {
                some.push_back(r);
            }
        }
        return some;
    }
};

template <class Format>
x86::TableWalk walk(const Format& format, Memory& memory, u64 table, unsigned levels, u64 address) {
    x86::TableWalk w{};
    x86::walk_tables(format, memory, table, levels, address, w);
    return w;
}

// Tables at 1000H (root), 2000H …, and the page at 9000H; every index of the address differs.
constexpr u64 page = 0x9000;

template <class Format>
void expect_four_references(Format format, u64 all_rights) {
    const u64 address = u64{1} << 39 | u64{2} << 30 | u64{3} << 21 | u64{4} << 12 | 0x567;
    Memory memory;
    memory.entries = {{0x1008, 0x2000 | all_rights},
                      {0x2010, 0x3000 | all_rights},
                      {0x3018, 0x4000 | all_rights},
                      {0x4020, page | all_rights}};
    const auto w = walk(format, memory, 0x1000, 4, address);
    EXPECT_EQ(w.end, x86::WalkEnd::leaf);
    EXPECT_EQ(w.level, 1u);
    EXPECT_EQ(Format::address(w.steps[1].entry), page);
    EXPECT_EQ(memory.seen, (std::vector<Reference>{{0x1008, 8}, {0x2010, 8}, {0x3018, 8}, {0x4020, 8}}));

    memory.seen.clear();
    memory.entries[0x3018] = 0x4020'0000 | all_rights | 0x80; // 2 MBytes
    const auto large = walk(format, memory, 0x1000, 4, address);
    EXPECT_EQ(large.end, x86::WalkEnd::leaf);
    EXPECT_EQ(large.level, 2u);
    EXPECT_EQ(memory.seen.size(), 3u);

    memory.entries[0x3018] = 0x4020'8000 | all_rights | 0x80; // misaligned
    EXPECT_EQ(walk(format, memory, 0x1000, 4, address).end, x86::WalkEnd::reserved);
    memory.entries[0x2010] = 0;
    memory.seen.clear();
    EXPECT_EQ(walk(format, memory, 0x1000, 4, address).end, x86::WalkEnd::not_present);
    EXPECT_EQ(memory.seen.size(), 2u);
    memory.limit = 0x2000;
    memory.seen.clear();
    EXPECT_EQ(walk(format, memory, 0x1000, 4, address).end, x86::WalkEnd::outside);
    EXPECT_EQ(memory.seen.size(), 1u) << "what is not there is not read";
}

TEST(PageWalkTest, ept_takes_four_references) {
    expect_four_references(vmx::EptFormat{}, 7);
    Memory memory;
    memory.entries = {{0x1008, 0x2000 | 7 | 0x40}}; // bits 6:3 of an entry that points on
    const auto w = walk(vmx::EptFormat{}, memory, 0x1000, 4, u64{1} << 39);
    EXPECT_EQ(w.end, x86::WalkEnd::reserved);
}

TEST(PageWalkTest, npt_takes_four_references) {
    expect_four_references(svm::NptFormat{}, 7);
}

TEST(PageWalkTest, shadow_tables_take_one_reference_a_level) {
    Memory memory;
    memory.entries = {{0x1000 + 8 * 3, 0x2001}, {0x2000 + 8 * 5, 0x3003}, {0x3000 + 8 * 6, page | 3}};
    const auto w = walk(shadow::ShadowFormat{}, memory, 0x1000, 3, 0xc0a0'6000);
    EXPECT_EQ(w.end, x86::WalkEnd::leaf);
    EXPECT_EQ(memory.seen, (std::vector<Reference>{{0x1018, 8}, {0x2028, 8}, {0x3030, 8}}));
}

// ---- the guest's own tables

using shadow::Access;
using shadow::PagingState;
using shadow::Walk;

Walk guest_walk(Memory& memory, const PagingState& s, u64 gva, Access access) {
    Walk w{};
    shadow::walk(memory, s, gva, access, w);
    return w;
}

constexpr Access a_read{}, a_write{.write = true, .fetch = false, .user = false};
constexpr u64 rw = 3, accessed = 1u << 5, dirty = 1u << 6;

PagingState state_of(u64 cr0, u64 cr4, u64 efer) {
    return {.cr0 = cr0,
            .cr3 = 0x1000,
            .cr4 = cr4,
            .efer = efer,
            .rflags = 2,
            .pdpte = {},
            .pkru = 0,
            .physical_bits = 40,
            .has_1g_pages = true,
            .has_pse36 = true,
            .amd = false};
}

const PagingState level4 = state_of(0x8001'0033, 0x20, 0xd00), level5 = state_of(0x8001'0033, 0x1020, 0xd00),
                  pae = state_of(0x8001'0033, 0x20, 0), bits32 = state_of(0x8001'0033, 0x10, 0);

TEST(GuestWalkTest, five_levels_take_five_references_and_set_a_everywhere_d_in_the_leaf) {
    Memory memory;
    memory.entries = {{0x1008, 0x2000 | rw},
                      {0x2010, 0x3000 | rw},
                      {0x3018, 0x4000 | rw},
                      {0x4020, 0x5000 | rw},
                      {0x5028, page | rw}};
    const u64 gva = u64{1} << 48 | u64{2} << 39 | u64{3} << 30 | u64{4} << 21 | u64{5} << 12 | 0x123;
    const Walk w = guest_walk(memory, level5, gva, a_write);
    EXPECT_TRUE(w.ok);
    EXPECT_EQ(w.gpa, page | 0x123);
    EXPECT_EQ(memory.reads(),
              (std::vector<Reference>{{0x1008, 8}, {0x2010, 8}, {0x3018, 8}, {0x4020, 8}, {0x5028, 8}}));
    EXPECT_EQ(memory.seen.size(), 10u);
    EXPECT_EQ(memory.entries[0x1008], 0x2000 | rw | accessed);
    EXPECT_EQ(memory.entries[0x5028], page | rw | accessed | dirty);
    memory.seen.clear();
    EXPECT_TRUE(guest_walk(memory, level5, gva, a_write).ok);
    EXPECT_EQ(memory.seen.size(), 5u) << "nothing is written twice";
}

TEST(GuestWalkTest, four_levels_take_four_references_and_a_fault_writes_nothing) {
    Memory memory;
    memory.entries = {
        {0x1000, 0x2000 | rw}, {0x2000, 0x3000 | rw}, {0x3000, 0x4000 | rw}, {0x4000, page | 1}};
    const Walk w = guest_walk(memory, level4, 0, a_write);
    EXPECT_FALSE(w.ok);
    EXPECT_EQ(w.error, shadow::fault::p | shadow::fault::w);
    EXPECT_EQ(memory.seen, (std::vector<Reference>{{0x1000, 8}, {0x2000, 8}, {0x3000, 8}, {0x4000, 8}}));
}

TEST(GuestWalkTest, pae_takes_two_references_below_its_registers) {
    Memory memory;
    memory.entries = {{0x1008, 0x2001}, {0x2018, 0x3000 | rw}, {0x3020, page | rw}};
    PagingState s = pae;
    ASSERT_TRUE(shadow::load_pdptes(memory, s));
    EXPECT_EQ(memory.seen, (std::vector<Reference>{{0x1000, 8}, {0x1008, 8}, {0x1010, 8}, {0x1018, 8}}));
    memory.seen.clear();
    memory.entries[0x1008] = 0; // of no account until CR3 is loaded
    const Walk w = guest_walk(memory, s, 0x4060'4abc, a_read);
    EXPECT_TRUE(w.ok);
    EXPECT_EQ(w.gpa, page | 0xabc);
    EXPECT_EQ(memory.reads(), (std::vector<Reference>{{0x2018, 8}, {0x3020, 8}}));
    memory.seen.clear();
    EXPECT_EQ(guest_walk(memory, s, 0x8000'0000, a_read).error, 0u) << "no such PDPTE: not present";
    EXPECT_EQ(memory.seen.size(), 0u);
}

TEST(GuestWalkTest, pdptes_with_reserved_bits_are_refused) {
    for (unsigned bit = 1; bit < 64; ++bit) {
        Memory memory;
        memory.entries = {{0x1018, 0x2001 | u64{1} << bit}};
        PagingState s = pae;
        const bool reserved = bit <= 2 || (bit >= 5 && bit <= 8) || bit >= 40;
        EXPECT_EQ(shadow::load_pdptes(memory, s), !reserved) << "bit " << bit;
        memory.entries[0x1018] &= ~u64{1};
        EXPECT_TRUE(shadow::load_pdptes(memory, s)) << "not present, so not checked";
    }
}

TEST(GuestWalkTest, thirty_two_bits_take_two_references_of_four_bytes) {
    Memory memory;
    memory.entries = {{0x1000 + 4 * 0x301, 0x2000 | rw}, {0x2000 + 4 * 0x2ff, page | rw}};
    const Walk w = guest_walk(memory, bits32, u64{0x301} << 22 | u64{0x2ff} << 12 | 0x10, a_write);
    EXPECT_TRUE(w.ok);
    EXPECT_EQ(w.gpa, page | 0x10);
    EXPECT_EQ(memory.reads()[0], (Reference{0x1c04, 4}));
    EXPECT_EQ(memory.reads()[1], (Reference{0x2bfc, 4}));
    for (const Reference& r : memory.seen) {
        EXPECT_EQ(r.bytes, 4u);
    }
    EXPECT_EQ(memory.entries[0x1c04], 0x2000 | rw | accessed);
    EXPECT_EQ(memory.entries[0x2bfc], page | rw | accessed | dirty);
}

TEST(GuestWalkTest, four_mbyte_pages_reach_forty_bits) {
    Memory memory;
    memory.entries = {{0x1000, 0x0080'0000 | 0x5au << 13 | 0x80 | rw}};
    EXPECT_EQ(guest_walk(memory, bits32, 0x12'3456, a_read).gpa, 0x5a'0080'0000 + 0x12'3456);
    PagingState narrow = bits32;
    narrow.physical_bits = 36; // bits 20:17 are then reserved
    EXPECT_EQ(guest_walk(memory, narrow, 0, a_read).error, shadow::fault::p | shadow::fault::rsvd);
    memory.entries[0x1000] = 1u << 21 | 0x80 | rw;
    EXPECT_EQ(guest_walk(memory, bits32, 0, a_read).error, shadow::fault::p | shadow::fault::rsvd);
    PagingState no_pse = bits32;
    no_pse.cr4 = 0; // PS means nothing
    memory.entries = {{0x1000, 0x2000 | 0x80 | rw}, {0x2000, page | rw}};
    EXPECT_EQ(guest_walk(memory, no_pse, 0, a_read).gpa, page);
}

TEST(GuestWalkTest, without_paging_nothing_is_read) {
    Memory memory;
    PagingState s = bits32;
    s.cr0 = 0x33;
    EXPECT_EQ(guest_walk(memory, s, 0x1234'5678, a_write).gpa, 0x1234'5678u);
    EXPECT_TRUE(memory.seen.empty());
}

} // namespace
} // namespace refhv
