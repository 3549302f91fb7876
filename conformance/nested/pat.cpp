// SPDX-License-Identifier: MIT
// The guest's PAT under nested paging: its own, checked at entry, and not the host's.
#include "conformance/nested/case.hpp"

namespace refhv::front {

using client::Guest;

namespace {

GUEST(guest_read_pat, "mov $0x277, %ecx\n rdmsr\n")

constexpr u64 reset_pat = 0x0007'0406'0007'0406;
// UC, WC, WT, WP, WB, UC- (SDM 3A table 12-10, APM 2 table 7-8).
constexpr bool is_type(u64 t) {
    return t == 0 || t == 1 || (t >= 4 && t <= 7);
}

} // namespace

class NestedPat : public NestedClaim {
  protected:
    // VMX: the VM-entry control "load IA32_PAT" (SDM 3D A.5).
    [[nodiscard]] static bool loads_pat() { return on_svm() || (msr(hello(), 0x484) >> (32 + 14) & 1) != 0; }
    static constexpr const char* no_pat = "VM entries do not load IA32_PAT (VM-entry control 14)";
    static Guest reader() {
        client::Plan plan;
        plan.msrs = {{.vm = 0, .msr = 0x277, .read = 0, .write = 1, .zero = {}}};
        Guest guest(host(), plan);
        guest.load(guest_read_pat);
        return guest;
    }
};

TEST_F(NestedPat, guest_reads_its_own) {
    claim({"SDM 3C 27.3.2.1", "APM 2 15.25.2"}, [&] {
        if (!loads_pat()) {
            GTEST_SKIP() << no_pat;
        }
        Guest guest = reader();
        for (const u64 pat : {reset_pat, u64{0x0001'0405'0607'0406}, u64{0x0606'0606'0606'0606}}) {
            guest.state.pat = pat;
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.reply.state.gpr[abi::rdx] << 32 | (r.reply.state.gpr[abi::rax] & 0xffff'ffff), pat);
        }
        combinations(3);
    });
}

TEST_F(NestedPat, illegal_types_are_refused_at_entry) {
    claim({"SDM 3C 27.3.1.1", "APM 2 15.25.4"}, [&] {
        if (!loads_pat()) {
            GTEST_SKIP() << no_pat;
        }
        Guest guest = reader();
        u64 tried = 0;
        for (unsigned entry = 0; entry < 8; ++entry) {
            for (const u64 type :
                 {u64{0}, u64{1}, u64{2}, u64{3}, u64{4}, u64{5}, u64{6}, u64{7}, u64{8}, u64{0x80}}) {
                guest.state.pat = (reset_pat & ~(u64{0xff} << 8 * entry)) | type << 8 * entry;
                EXPECT_EQ(guest.run({}).outcome,
                          is_type(type) ? abi::Outcome::exited : abi::Outcome::entry_refused)
                    << "type " << type << " in entry " << entry;
                ++tried;
            }
        }
        combinations(tried);
    });
}

} // namespace refhv::front
