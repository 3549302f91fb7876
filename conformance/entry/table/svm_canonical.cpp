// SPDX-License-Identifier: MIT
// Base addresses that VMRUN sign-extends instead of refusing them (APM 2 15.5.1).
#include "conformance/entry/table/svm_rules.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

namespace {

GUEST(guest_nop, "nop")

// Alike for 48 and 57 bits of linear address.
struct Base {
    u64 written, loaded;
};
constexpr Base bases[] = {
    {0x01ff'8000'0000'0000, 0xffff'8000'0000'0000}, {0x01ff'ffff'ffff'f000, 0xffff'ffff'ffff'f000},
    {0xfe00'0000'1234'5000, 0x0000'0000'1234'5000}, {0x8000'7fff'ffff'f000, 0x0000'7fff'ffff'f000},
    {0x7fff'8000'0000'0000, 0xffff'8000'0000'0000}, {0xffff'8000'0000'0000, 0xffff'8000'0000'0000},
    {0x0000'7fff'0000'0000, 0x0000'7fff'0000'0000}};

class EntryBases : public Claim {};

} // namespace

// ES, CS, SS and DS, which VMRUN loads itself; in 64-bit mode nothing uses them. What was loaded #VMEXIT
// writes back.
TEST_F(EntryBases, svm_segment_bases_are_made_canonical) {
    claim({.apm = "APM 2 15.5.1"}, [&] {
        for (const Base& base : bases) {
            client::Guest guest(host(), client::Plan{});
            guest.load(guest_nop);
            const auto base_of = [](u32 i) {
                return svm_entry::segments + i * svm_entry::segment_bytes + svm_entry::base_at;
            };
            for (u32 i = 0; i < 4; ++i) {
                guest.field(base_of(i), 8, base.written);
            }
            const auto r = guest.run({});
            ASSERT_EQ(r.outcome, abi::Outcome::exited);
            EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
            for (u32 i = 0; i < 4; ++i) {
                EXPECT_EQ(guest.read_field(base_of(i), 8, false), base.loaded)
                    << svm_entry::name_of_field(base_of(i)) << ", written " << std::hex << base.written;
            }
        }
        combinations(std::size(bases) * 4);
    });
}

} // namespace refhv::front
