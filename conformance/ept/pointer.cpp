// SPDX-License-Identifier: MIT
// EPT pointers and page-modification logs that VM entry refuses.
#include "conformance/ept/case.hpp"

namespace refhv::front {

using client::Guest;

class EptPointer : public Ept {
  protected:
    // A guest whose field is changed so, and what the entry says.
    static void expect_error_7(u32 field, u64 set, u64 clear, const std::string& what, u64 controls = 0) {
        SCOPED_TRACE(what);
        Guest guest(host(), client::Plan{});
        guest.load({});
        guest.field(field, 8, (guest.read_field(field, 8) & ~clear) | set);
        if (controls != 0) {
            guest.field(secondary_controls, 4, guest.read_field(secondary_controls, 4) | controls);
        }
        const auto r = guest.run({});
        EXPECT_EQ(r.outcome, abi::Outcome::entry_refused);
        EXPECT_EQ(r.reply.refusal.instruction_error, 7u) << "VM entry with invalid control fields";
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    }
    [[nodiscard]] static unsigned physical_bits() { return cpuid(hello(), 0x8000'0008, 0, 0) & 0xff; }
};

// Bits 2:0: UC where bit 8 of the capability says so, WB where bit 14 does, and nothing else.
TEST_F(EptPointer, memory_type) {
    claim({.sdm = "SDM 3C 27.2.1.1, 25.6.11"}, [&] {
        for (u64 type = 0; type < 8; ++type) {
            if ((type == 0 && offers(8)) || (type == 6 && offers(14))) {
                Guest guest(host(), client::Plan{});
                guest.load({});
                guest.field(ept_pointer, 8, (guest.read_field(ept_pointer, 8) & ~u64{7}) | type);
                expect_stopped(guest.run({}));
            } else {
                expect_error_7(ept_pointer, type, 7, "type " + std::to_string(type));
            }
        }
        combinations(8);
    });
}

// Bits 5:3: one less than the walk's length; 5 levels where bit 7 of the capability says so.
TEST_F(EptPointer, walk_length) {
    claim({.sdm = "SDM 3C 27.2.1.1, 25.6.11"}, [&] {
        u64 tried = 0;
        for (u64 length = 0; length < 8; ++length) {
            if (length != 3 && !(length == 4 && offers(7))) {
                expect_error_7(ept_pointer, length << 3, 7u << 3, "length " + std::to_string(length));
                ++tried;
            }
        }
        combinations(tried);
    });
}

// Bits 6 and 7 belong to features (A.10 bit 21; supervisor shadow stacks, bit 23); 11:8 to none.
TEST_F(EptPointer, reserved_bits) {
    claim({.sdm = "SDM 3C 27.2.1.1, 25.6.11"}, [&] {
        u64 tried = 0;
        const auto refuses = [&](unsigned bit) {
            expect_error_7(ept_pointer, u64{1} << bit, 0, "bit " + std::to_string(bit));
            ++tried;
        };
        for (unsigned bit = 6; bit < 12; ++bit) {
            if (!(bit == 6 && accessed_dirty()) && !(bit == 7 && offers(23))) {
                refuses(bit);
            }
        }
        for (unsigned bit = physical_bits(); bit < 64; ++bit) {
            refuses(bit);
        }
        combinations(tried);
    });
}

TEST_F(EptPointer, log_address) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        constexpr unsigned enable_pml = 17;
        if (!offers_secondary(enable_pml)) {
            GTEST_SKIP() << "no page-modification log (secondary control 17)";
        }
        for (const u64 address : {u64{1}, u64{0x800}, u64{1} << physical_bits(), u64{1} << 63}) {
            expect_error_7(pml_address, address, ~u64{0}, "address", u64{1} << enable_pml);
        }
        combinations(4);
    });
}

} // namespace refhv::front
