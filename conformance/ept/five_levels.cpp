// SPDX-License-Identifier: MIT
// EPT of five levels: the EPT pointer leads to a PML5 table on a page of the guest, and its entries to the
// four levels that the guest has anyway.
#include "conformance/ept/case.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

GUEST(guest_reads, "mov (%rsi), %eax\n")

constexpr u64 top = client::layout::arena;           // the PML5 table
constexpr u64 read_page = top + page_size;           // what the guest reads
constexpr u32 pattern = 0x5a17'0ff5;                 // stands there
constexpr u64 beyond_four_levels = u64{1} << 48;     // its index in the PML5 table is 1
constexpr u64 page_entry = 0x67;                     // of the guest: P, W, U, A, D
constexpr u64 five = 4u << 3, length_bits = 7u << 3; // of the EPT pointer
constexpr u64 linear_valid = 1u << 7, final_access = 1u << 8;

} // namespace

class EptFiveLevels : public Ept {
  protected:
    static unsigned physical_bits() { return cpuid(hello(), 0x8000'0008, 0, 0) & 0xff; }

    // A guest whose PML5 table is empty.
    class FiveLevels {
      public:
        FiveLevels() : guest_(host(), {.arena_pages = 2}) {
            needs(abi::Permit::translations);
            needs(abi::Permit::physical_addresses);
            if (!offers(7)) {
                throw client::Refused(abi::Op::hello, abi::Outcome::unsupported,
                                      "no page walk of length 5 (IA32_VMX_EPT_VPID_CAP bit 7)");
            }
            guest_.load(guest_reads);
            guest_.fill(top, 0, 0, page_size / 8, false);
            guest_.fill(read_page, pattern, 0, 1, false);
            guest_.state.gpr[abi::rsi] = read_page;
            pointer_ = guest_.read_field(ept_pointer, 8);
        }
        // The table that four levels begin with.
        [[nodiscard]] u64 lower() const { return pointer_ & ~u64{0xfff}; }
        void entry(unsigned index, u64 value) { guest_.fill(top + 8 * index, value, 0, 1, false); }
        [[nodiscard]] u64 entry_now(unsigned index) { return guest_.read64(top + 8 * index, 1)[0]; }
        // The guest reads by a page of its own that leads there.
        void read_at(u64 gpa) { guest_.fill(REFHV_ARENA_ENTRY + 8, gpa | page_entry, 0, 1, false); }
        client::RunResult run(u64 flags = 0) {
            const u64 root = guest_.host_physical(top) | (pointer_ & 0xfff & ~length_bits) | five;
            guest_.field(ept_pointer, 8, root | flags);
            return go();
        }
        client::RunResult run_with_four() {
            guest_.field(ept_pointer, 8, pointer_);
            return go();
        }
        static void expect_read(const client::RunResult& r) {
            expect_stopped(r);
            EXPECT_EQ(r.reply.state.gpr[abi::rax], pattern);
        }
        static void expect_violation(const client::RunResult& r, u64 gpa, u64 qualification) {
            constexpr u64 defined = 0x3f | linear_valid | final_access;
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
            EXPECT_EQ(r.reply.exit.guest_physical, gpa);
            EXPECT_EQ(r.reply.exit.qualification & defined, qualification);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }

      private:
        client::RunResult go() {
            guest_.invalidate(abi::Invalidation::ept_global);
            return guest_.run({});
        }
        Guest guest_;
        u64 pointer_ = 0;
    };
};

// Entry 0 leads to all that four levels map. Behind one that is not present there is nothing.
TEST_F(EptFiveLevels, the_first_entry_leads_to_the_lower_256_tbytes) {
    claim({.sdm = "SDM 3C 29.3.2, 25.6.11"}, [&] {
        FiveLevels levels;
        FiveLevels::expect_violation(levels.run(), client::layout::pml4, 1 | linear_valid);
        levels.entry(0, levels.lower() | may_all);
        FiveLevels::expect_read(levels.run());
        levels.entry(0, 0);
        levels.entry(1, levels.lower() | may_all);
        FiveLevels::expect_violation(levels.run(), client::layout::pml4, 1 | linear_valid);
    });
}

// The rights of the entry count as those of any other level.
TEST_F(EptFiveLevels, rights_of_the_fifth_level) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.2"}, [&] {
        FiveLevels levels;
        u64 tried = 0;
        for (const u32 rights : valid_rights()) {
            SCOPED_TRACE(rights_text(rights));
            levels.entry(0, levels.lower() | rights);
            const auto r = levels.run();
            const u64 seen = u64{rights} << 3 | linear_valid;
            if ((rights & may_read) == 0) { // the first is the walk of the guest's tables
                FiveLevels::expect_violation(r, client::layout::pml4, 1 | seen);
            } else if ((rights & may_execute) == 0) {
                FiveLevels::expect_violation(r, client::layout::code, 4 | seen | final_access);
            } else {
                FiveLevels::expect_read(r);
            }
            ++tried;
        }
        combinations(tried);
    });
}

// Bits 7:3 and those beyond the CPU's addresses are reserved; writes want reads.
TEST_F(EptFiveLevels, misconfigured_entries_of_the_fifth_level) {
    claim({.sdm = "SDM 3C 29.3.3.1"}, [&] {
        FiveLevels levels;
        std::vector<u64> bad{may_write, may_write | may_execute};
        if (!execute_only()) {
            bad.push_back(may_execute);
        }
        for (unsigned bit = 3; bit <= 7; ++bit) {
            bad.push_back(may_all | u64{1} << bit);
        }
        for (unsigned bit = physical_bits(); bit < 52; ++bit) {
            bad.push_back(may_all | u64{1} << bit);
        }
        for (const u64 bits : bad) {
            SCOPED_TRACE(::testing::Message() << "bits " << std::hex << bits);
            levels.entry(0, levels.lower() | bits);
            const auto r = levels.run();
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_misconfig);
            EXPECT_EQ(r.reply.exit.guest_physical, client::layout::pml4);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
        constexpr u64 ignored = u64{1} << 9 | u64{1} << 11 | u64{0x7ff} << 52;
        levels.entry(0, levels.lower() | may_all | ignored);
        FiveLevels::expect_read(levels.run());
        combinations(bad.size() + 1);
    });
}

// Bits 56:48 of the address choose the entry. Four levels have no place for them.
TEST_F(EptFiveLevels, addresses_above_256_tbytes) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.2"}, [&] {
        FiveLevels levels;
        if (physical_bits() <= 48) {
            GTEST_SKIP() << "guest-physical addresses have " << physical_bits() << " bits";
        }
        levels.entry(0, levels.lower() | may_all);
        const u64 last = (u64{1} << (physical_bits() - 48)) - 1;
        for (const u64 index : {u64{1}, last / 2 + 1, last}) {
            SCOPED_TRACE(::testing::Message() << "entry " << index);
            const u64 gpa = read_page | index * beyond_four_levels;
            levels.read_at(gpa);
            FiveLevels::expect_violation(levels.run(), gpa, 1 | linear_valid | final_access);
            levels.entry(static_cast<unsigned>(index), levels.lower() | may_all);
            FiveLevels::expect_read(levels.run());
            const auto r = levels.run_with_four();
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
            EXPECT_EQ(r.reply.exit.guest_physical, gpa);
            levels.entry(static_cast<unsigned>(index), 0);
        }
        levels.read_at(read_page);
        FiveLevels::expect_read(levels.run_with_four());
        combinations(10);
    });
}

TEST_F(EptFiveLevels, accessed_flag_of_the_fifth_level) {
    claim({.sdm = "SDM 3C 29.3.5"}, [&] {
        FiveLevels levels;
        if (!accessed_dirty()) {
            GTEST_SKIP() << no_accessed_dirty;
        }
        const u64 value = levels.lower() | may_all;
        levels.entry(0, value);
        levels.entry(1, value);
        FiveLevels::expect_read(levels.run());
        EXPECT_EQ(levels.entry_now(0), value) << "without the flags";
        FiveLevels::expect_read(levels.run(enable_accessed_dirty));
        EXPECT_EQ(levels.entry_now(0), value | accessed);
        EXPECT_EQ(levels.entry_now(1), value) << "not used";
    });
}

} // namespace refhv::front
