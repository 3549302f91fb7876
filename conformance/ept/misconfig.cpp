// SPDX-License-Identifier: MIT
// EPT misconfigurations: entries that no processor accepts, level by level.
#include "conformance/ept/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

GUEST(guest_read, "mov (%rsi), %al\n")

constexpr u64 page = AccessList::subject; // begins 2 MBytes of its own
constexpr u64 large = 1u << 7;

struct Entry {
    unsigned level;
    u64 value;
    u32 flags; // abi::NestedEntryFlags
};

} // namespace

class EptMisconfig : public Ept {
  protected:
    // Runs a guest that reads `page` under one odd entry after the other.
    class Probe {
      public:
        Probe() : guest_(host(), {.arena_pages = arena_pages}) {
            guest_.state.gpr[abi::rsi] = page;
            guest_.load(guest_read);
        }
        // The exit, with the entry in the place of the one that maps `page`. Afterwards everything is as
        // before.
        abi::Exit exit(const Entry& e) {
            guest_.nested_entry(page, e.level, e.value, e.flags);
            guest_.invalidate(abi::Invalidation::ept_single);
            const auto r = guest_.run({});
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            ++tried_;
            const bool table = (e.flags & abi::nested_entry_table) != 0;
            if (e.level > 1) {
                guest_.nested_entry(page, e.level, may_all, abi::nested_entry_table);
            }
            if (!table) { // whatever hung below it is forgotten
                constexpr u64 base = client::layout::base;
                guest_.nested_entry(base, 1, ept_leaf(base, 1, may_all), 0,
                                    client::layout::base_pages + arena_pages, page_size);
            }
            return r.reply.exit;
        }
        u64 host_physical(u64 gpa) { return guest_.host_physical(gpa); }
        [[nodiscard]] u64 tried() const { return tried_; }

      private:
        static constexpr u64 arena_pages = 1024;
        Guest guest_;
        u64 tried_ = 0;
    };

    // The misconfiguration is found by whatever comes first: at levels 4 and 3 the walk for the first fetch.
    static void expect_misconfig(Probe& probe, const Entry& e, const std::string& what) {
        SCOPED_TRACE(what + " at level " + std::to_string(e.level));
        const abi::Exit exit = probe.exit(e);
        EXPECT_EQ(static_cast<Reason>(exit.reason), Reason::nested_misconfig);
        EXPECT_EQ(exit.raw_reason, 49u);
        EXPECT_EQ(exit.guest_physical, e.level > 2 ? client::layout::pml4 : page);
    }
    // A leaf of `level`, with bits besides; its address is right.
    static Entry leaf_with(Probe& probe, unsigned level, u64 bits, u32 rights = may_all) {
        const u64 write_back = (bits & 0x38) != 0 ? 0 : 6u << 3;
        return {level, probe.host_physical(page) | rights | write_back | (level > 1 ? large : 0) | bits,
                abi::nested_entry_raw};
    }
    // Where leaves of this level are offered. Without W, for a CPU that takes it must not write there.
    static void large_leaf_with(Probe& probe, unsigned level, unsigned bit) {
        if (offers(14 + level)) {
            const u64 address = probe.host_physical(page) & ~((page_size << 9 * (level - 1)) - 1);
            expect_misconfig(
                probe, {level, address | may_read | 6u << 3 | large | u64{1} << bit, abi::nested_entry_raw},
                "bit " + std::to_string(bit));
        }
    }
    [[nodiscard]] static unsigned physical_bits() { return cpuid(hello(), 0x8000'0008, 0, 0) & 0xff; }
};

TEST_F(EptMisconfig, writes_without_reads) {
    claim({.sdm = "SDM 3C 29.3.3.1"}, [&] {
        Probe probe;
        for (unsigned level = 4; level >= 1; --level) {
            for (const u32 rights : {may_write, may_write | may_execute}) {
                expect_misconfig(probe,
                                 level == 1 ? leaf_with(probe, 1, 0, rights)
                                            : Entry{level, rights, abi::nested_entry_table},
                                 rights_text(rights));
            }
        }
        combinations(probe.tried());
    });
}

TEST_F(EptMisconfig, execute_only_where_it_is_not_offered) {
    claim({.sdm = "SDM 3C 29.3.3.1"}, [&] {
        if (execute_only()) {
            GTEST_SKIP() << "execute-only entries are offered (IA32_VMX_EPT_VPID_CAP bit 0)";
        }
        Probe probe;
        for (unsigned level = 4; level >= 1; --level) {
            expect_misconfig(probe,
                             level == 1 ? leaf_with(probe, 1, 0, may_execute)
                                        : Entry{level, may_execute, abi::nested_entry_table},
                             rights_text(may_execute));
        }
        combinations(probe.tried());
    });
}

// Tables 29-1, 29-2 and 29-4: bits 7:3 at level 4, 6:3 at levels 3 and 2.
TEST_F(EptMisconfig, reserved_low_bits_of_entries_that_lead_on) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.1"}, [&] {
        Probe probe;
        for (unsigned level = 4; level >= 2; --level) {
            for (unsigned bit = 3; bit <= (level == 4 ? 7u : 6u); ++bit) {
                expect_misconfig(probe, {level, may_all | u64{1} << bit, abi::nested_entry_table},
                                 "bit " + std::to_string(bit));
            }
        }
        combinations(probe.tried());
    });
}

TEST_F(EptMisconfig, address_bits_that_the_cpu_has_not) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.1"}, [&] {
        if (physical_bits() >= 52) {
            GTEST_SKIP() << "this CPU has 52 bits of physical address";
        }
        Probe probe;
        // Entries that lead on need a raw address: that of the EPT table, which is level 4's with the bit.
        for (unsigned bit = physical_bits(); bit < 52; ++bit) {
            const std::string what = "bit " + std::to_string(bit);
            expect_misconfig(probe, leaf_with(probe, 1, u64{1} << bit), what);
            if (offers(16)) {
                expect_misconfig(probe, leaf_with(probe, 2, u64{1} << bit), what + " of a 2M leaf");
            }
            for (unsigned level = 4; level >= 2; --level) {
                expect_misconfig(probe, {level, u64{1} << bit | may_all, abi::nested_entry_raw}, what);
            }
        }
        combinations(probe.tried());
    });
}

// Tables 29-3 and 29-5: between the attributes and the address of a large page. Bit 12, which is PAT in
// ordinary large pages, is among them.
TEST_F(EptMisconfig, reserved_address_bits_of_large_leaves) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.1"}, [&] {
        Probe probe;
        for (unsigned bit = 13; bit < 21; ++bit) {
            large_leaf_with(probe, 2, bit);
        }
        for (unsigned bit = 13; bit < 30; ++bit) {
            large_leaf_with(probe, 3, bit);
        }
        combinations(probe.tried());
    });
}

TEST_F(EptMisconfig, bit_12_of_large_leaves) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.1"}, [&] {
        Probe probe;
        large_leaf_with(probe, 2, 12);
        large_leaf_with(probe, 3, 12);
        combinations(probe.tried());
    });
}

TEST_F(EptMisconfig, large_leaves_that_are_not_offered) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.1"}, [&] {
        if (offers(16) && offers(17)) {
            GTEST_SKIP() << "leaves of 2 MBytes and 1 GByte are offered (IA32_VMX_EPT_VPID_CAP bits 16, 17)";
        }
        Probe probe;
        for (const unsigned level : {2u, 3u}) {
            if (!offers(14 + level)) {
                expect_misconfig(probe, {level, may_all | large, abi::nested_entry_table}, "bit 7");
            }
        }
        combinations(probe.tried());
    });
}

// UC, WC, WT, WP and WB are types; 2, 3 and 7 are none (SDM 3C 29.3.7). "Ignore PAT" changes nothing of that.
TEST_F(EptMisconfig, memory_types) {
    claim({.sdm = "SDM 3C 29.3.3.1, 29.3.7"}, [&] {
        constexpr u64 ignore_pat = 1u << 6;
        Probe probe;
        for (unsigned level = 1; level <= (offers(16) ? 2u : 1u); ++level) {
            for (u64 type = 0; type < 8; ++type) {
                for (const u64 ipat : {u64{0}, ignore_pat}) {
                    const Entry e{level,
                                  probe.host_physical(page) | may_all | type << 3 | ipat |
                                      (level > 1 ? large : 0),
                                  abi::nested_entry_raw};
                    const bool valid = type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
                    if (valid) {
                        EXPECT_EQ(static_cast<Reason>(probe.exit(e).reason), Reason::hlt)
                            << "type " << type << " at level " << level;
                    } else {
                        expect_misconfig(probe, e, "type " + std::to_string(type));
                    }
                }
            }
        }
        combinations(probe.tried());
    });
}

// Bits 2:0 clear: nothing else of the entry is looked at.
TEST_F(EptMisconfig, nothing_is_reserved_in_entries_that_are_not_present) {
    claim({.sdm = "SDM 3C 29.3.2, 29.3.3.2"}, [&] {
        Probe probe;
        for (unsigned level = 4; level >= 1; --level) {
            SCOPED_TRACE("level " + std::to_string(level));
            // Bit 10 is a right under mode-based execute control, which is off.
            const abi::Exit exit = probe.exit({level, ~u64{7}, abi::nested_entry_raw});
            EXPECT_EQ(static_cast<Reason>(exit.reason), Reason::nested_violation);
            EXPECT_EQ(exit.qualification & 0x38, 0u) << "no rights";
            EXPECT_EQ(exit.guest_physical, level > 2 ? client::layout::pml4 : page);
        }
        combinations(probe.tried());
    });
}

} // namespace refhv::front
