// SPDX-License-Identifier: MIT
// Nested page-table entries with bits that must be zero, bits that are ignored, and the nested CR3.
#include "conformance/npt/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

GUEST(guest_read, "mov (%rsi), %al\n")

constexpr u64 page = AccessList::subject;
constexpr u64 present = 1u << 0, reserved = 1u << 3; // of EXITINFO1
constexpr const char* section = "APM 2 15.25.6, 5.3.3, 5.4.1";

} // namespace

class NptReserved : public Npt {
  protected:
    // Runs a guest that reads `page` under one odd entry after the other.
    class Probe {
      public:
        Probe() : guest_(host(), {.arena_pages = arena_pages}) {
            guest_.state.gpr[abi::rsi] = page;
            guest_.load(guest_read);
        }
        abi::Exit exit(unsigned level, u64 value, u32 flags) {
            guest_.nested_entry(page, level, value, flags);
            guest_.invalidate(abi::Invalidation::asid_fresh);
            const auto r = guest_.run({});
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            ++tried_;
            constexpr u64 all = p | rw | us;
            if (level > 1) {
                guest_.nested_entry(page, level, all, abi::nested_entry_table);
            }
            if ((flags & abi::nested_entry_table) == 0) { // whatever hung below it is forgotten
                constexpr u64 base = client::layout::base;
                guest_.nested_entry(base, 1, base | all, 0, client::layout::base_pages + arena_pages,
                                    page_size);
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

    // The C-bit of memory encryption, which stands among the reserved ones (APM 2 7.10.1); 0: there is none.
    [[nodiscard]] static unsigned encryption_bit() {
        return (cpuid(hello(), 0x8000'001f, 0, 0) & 1) != 0 ? cpuid(hello(), 0x8000'001f, 0, 1) & 0x3f : 0;
    }

    // Found by whatever comes first: at levels 4 and 3 the walk for the first fetch.
    static void expect_reserved(Probe& probe, unsigned level, u64 value, u32 flags, unsigned bit) {
        SCOPED_TRACE("bit " + std::to_string(bit) + " at level " + std::to_string(level));
        const abi::Exit exit = probe.exit(level, value, flags);
        EXPECT_EQ(exit.raw_reason, 0x400u);
        EXPECT_EQ(exit.qualification & reserved, reserved) << "RSV of EXITINFO1";
        EXPECT_EQ(exit.qualification & (of_final_address | of_guest_table),
                  level > 2 ? of_guest_table : of_final_address);
        EXPECT_EQ(exit.info, level > 2 ? client::layout::pml4 : page) << "EXITINFO2";
    }
};

TEST_F(NptReserved, address_bits_that_the_cpu_has_not) {
    claim({.apm = section}, [&] {
        if (physical_bits() >= 52) {
            GTEST_SKIP() << "this CPU has 52 bits of physical address";
        }
        Probe probe;
        const u64 address = probe.host_physical(page) | p | rw | us;
        for (unsigned bit = physical_bits(); bit < 52; ++bit) {
            if (bit == encryption_bit()) {
                continue;
            }
            const u64 one = u64{1} << bit;
            expect_reserved(probe, 1, address | one, abi::nested_entry_raw, bit);
            expect_reserved(probe, 2, address | large | one, abi::nested_entry_raw, bit);
            for (unsigned level = 4; level >= 2; --level) {
                expect_reserved(probe, level, one | p | rw | us, abi::nested_entry_raw, bit);
            }
        }
        combinations(probe.tried());
    });
}

TEST_F(NptReserved, address_bits_of_large_leaves) {
    claim({.apm = section}, [&] {
        Probe probe;
        for (unsigned bit = 13; bit < 21; ++bit) { // bit 12 is PAT
            expect_reserved(probe, 2, probe.host_physical(page) | p | rw | us | large | u64{1} << bit,
                            abi::nested_entry_raw, bit);
        }
        for (unsigned bit = 13; offers_1g() && bit < 30;
             ++bit) { // without RW: no CPU that takes it shall write
            const u64 address = probe.host_physical(page) & ~((u64{1} << 30) - 1);
            expect_reserved(probe, 3, address | p | us | large | u64{1} << bit, abi::nested_entry_raw, bit);
        }
        combinations(probe.tried());
    });
}

TEST_F(NptReserved, page_size_bit_where_there_is_no_such_page) {
    claim({.apm = section}, [&] {
        Probe probe;
        expect_reserved(probe, 4, p | rw | us | large, abi::nested_entry_table, 7);
        if (!offers_1g()) {
            expect_reserved(probe, 3, p | rw | us | large, abi::nested_entry_table, 7);
        }
        combinations(probe.tried());
    });
}

// P is 0 for a page that is not present only, and such an entry has no reserved bits.
TEST_F(NptReserved, entries_with_reserved_bits_are_present) {
    claim({.apm = "APM 2 15.25.6, 8.4.2"}, [&] {
        Probe probe;
        const u64 spoilt = probe.host_physical(page) | p | rw | us | large | u64{1} << 13;
        EXPECT_EQ(probe.exit(2, spoilt, abi::nested_entry_raw).qualification & (present | reserved),
                  present | reserved)
            << "a 2M leaf";
        EXPECT_EQ(probe.exit(4, p | rw | us | large, abi::nested_entry_table).qualification &
                      (present | reserved),
                  present | reserved)
            << "bit 7 at level 4";
        combinations(probe.tried());
    });
}

// Bits 11:9 and 58:52 are software's at every level (62:59 too, while the host has no protection keys).
TEST_F(NptReserved, bits_that_are_softwares) {
    claim({.apm = "APM 2 5.4.1, 15.25.5"}, [&] {
        Probe probe;
        for (unsigned level = 4; level >= 1; --level) {
            for (const unsigned bit : {9u, 10u, 11u, 52u, 53u, 54u, 55u, 56u, 57u, 58u}) {
                const u64 value = p | rw | us | u64{1} << bit;
                const abi::Exit exit = probe.exit(level, level == 1 ? page | value : value,
                                                  level == 1 ? 0u : u32{abi::nested_entry_table});
                EXPECT_EQ(static_cast<Reason>(exit.reason), Reason::hlt)
                    << "bit " << bit << " at level " << level;
            }
        }
        combinations(probe.tried());
    });
}

TEST_F(NptReserved, nothing_is_reserved_in_entries_that_are_not_present) {
    claim({.apm = section}, [&] {
        Probe probe;
        for (unsigned level = 4; level >= 1; --level) {
            SCOPED_TRACE("level " + std::to_string(level));
            const abi::Exit exit = probe.exit(level, ~p, abi::nested_entry_raw);
            EXPECT_EQ(static_cast<Reason>(exit.reason), Reason::nested_violation);
            EXPECT_EQ(exit.qualification & (present | reserved), 0u) << "P and RSV of EXITINFO1";
            EXPECT_EQ(exit.info, level > 2 ? client::layout::pml4 : page) << "EXITINFO2";
        }
        combinations(probe.tried());
    });
}

// PWT, PCD and PAT of a nested leaf choose among the host's PAT entries, each of which is legal.
TEST_F(NptReserved, pat_entries_of_leaves) {
    claim({.apm = "APM 2 15.25.8, 5.4.1, 7.8.2"}, [&] {
        constexpr u64 pwt = 1u << 3, pcd = 1u << 4, pat = 1u << 7, large_pat = 1u << 12;
        Probe probe;
        for (const unsigned level : {1u, 2u}) {
            for (u64 index = 0; index < 8; ++index) {
                const u64 bits = ((index & 1) != 0 ? pwt : 0) | ((index & 2) != 0 ? pcd : 0) |
                                 ((index & 4) != 0 ? (level == 1 ? pat : large_pat) : 0);
                const u64 value = probe.host_physical(page) | p | rw | us | (level == 2 ? large : 0) | bits;
                EXPECT_EQ(static_cast<Reason>(probe.exit(level, value, abi::nested_entry_raw).reason),
                          Reason::hlt)
                    << "entry " << index << " at level " << level;
            }
        }
        combinations(probe.tried());
    });
}

// Address bits beyond the CPU's in the nested CR3 are an illegal state.
TEST_F(NptReserved, nested_cr3_beyond_the_cpus_addresses) {
    claim({.apm = "APM 2 15.25.4"}, [&] {
        constexpr u32 nested_cr3 = 0xb0;
        u64 tried = 0;
        for (unsigned bit = physical_bits(); bit < 64; ++bit) {
            Guest guest(host(), client::Plan{});
            guest.load({});
            guest.field(nested_cr3, 8, guest.read_field(nested_cr3, 8) | u64{1} << bit);
            const auto r = guest.run({});
            EXPECT_EQ(r.outcome, abi::Outcome::entry_refused) << "bit " << bit;
            EXPECT_EQ(r.reply.refusal.entry_failure, 1u) << "VMEXIT_INVALID";
            ++tried;
        }
        combinations(tried);
    });
}

} // namespace refhv::front
