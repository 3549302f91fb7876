// SPDX-License-Identifier: MIT
// The processors in ACPI's tables, in memory laid out as a BIOS does it.
#include "conformance/test/core/firmware_tables.hpp"
#include "refhv/boot/madt.hpp"

namespace refhv::boot {
namespace {

class MadtTest : public FirmwareTables {
  protected:
    MadtTest() {
        // Interrupt controller's address and flags; two local APICs, one of them off; an I/O APIC; an x2APIC.
        put_madt({0,    8,    1, 4, 1, 0, 0, 0,  0, 8, 2,    5, 0, 0, 0, 0, 1, 12, 0, 0, 0, 0,
                  0xc0, 0xfe, 0, 0, 0, 0, 9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0,  3, 0, 0, 0});
    }

    void put_madt(const std::vector<u8>& entries) {
        std::vector<u8> body(8);
        body.insert(body.end(), entries.begin(), entries.end());
        put_table(third, "APIC", body);
    }
    std::vector<u32> found(usize room = 8) const {
        std::vector<u32> ids(room);
        ids.resize(find_processors(acpi::find_root(to_virtual()), to_virtual(), ids));
        return ids;
    }
};

using Ids = std::vector<u32>;

TEST_F(MadtTest, enabled_processors_of_both_kinds_are_found) {
    EXPECT_EQ(found(), Ids({4, 0x12c}));
}

TEST_F(MadtTest, by_a_root_that_the_loader_names_and_by_an_xsdt) {
    memory_[root] = 0; // no BIOS shows it
    constexpr u64 named = 0x7'0000, xsdt = 0x7'1000;
    put_root(named);
    const auto found_from = [&](u64 at) {
        std::vector<u32> ids(8);
        ids.resize(find_processors(acpi::root_at(at, to_virtual()), to_virtual(), ids));
        return ids;
    };
    EXPECT_EQ(found_from(named), Ids({4, 0x12c}));
    std::vector<u8> body(16);
    std::memcpy(&body[0], &other, 8);
    std::memcpy(&body[8], &third, 8);
    put_table(xsdt, "XSDT", body);
    std::memset(&memory_[rsdt], 0, 4); // from now on the XSDT alone
    memory_[named + 15] = 2;
    std::memcpy(&memory_[named + 24], &xsdt, 8);
    seal(named, 20, named + 8);
    EXPECT_EQ(found_from(named), Ids({4, 0x12c}));
    EXPECT_EQ(found_from(named + 16), Ids()) << "no root pointer is there";
    EXPECT_EQ(found_from(u64{1} << 32), Ids()) << "out of reach";
}

TEST_F(MadtTest, no_more_than_there_is_room_for) {
    EXPECT_EQ(found(1), Ids({4}));
}

TEST_F(MadtTest, root_pointer_may_be_in_the_ebda) {
    memory_[root] = 0;
    EXPECT_EQ(found(), Ids());
    const u16 segment = 0x9fc0;
    std::memcpy(&memory_[0x40e], &segment, 2);
    put_root(u64{segment} * 16 + 0x3f0);
    EXPECT_EQ(found(), Ids({4, 0x12c}));
}

TEST_F(MadtTest, tables_whose_checksum_is_wrong_are_none) {
    for (const u64 at : {root + 15, rsdt + 30, third + 30}) {
        memory_[at] ^= 1;
        EXPECT_EQ(found(), Ids()) << std::hex << at;
        memory_[at] ^= 1;
    }
    EXPECT_EQ(found(), Ids({4, 0x12c}));
}

TEST_F(MadtTest, entries_that_are_cut_short_or_endless_end_the_list) {
    put_madt({0, 8, 1, 4, 1, 0, 0, 0, 0, 0, 0, 8, 3, 6, 1, 0, 0, 0}); // a length of 0
    EXPECT_EQ(found(), Ids({4}));
    put_madt({0, 8, 1, 4, 1, 0, 0, 0, 0, 8, 2, 5}); // the table ends inside
    EXPECT_EQ(found(), Ids({4}));
    put_madt({0, 4, 1, 7, 0, 8, 1, 4, 1, 0, 0, 0}); // too short for its kind
    EXPECT_EQ(found(), Ids({4}));
}

} // namespace
} // namespace refhv::boot
