// SPDX-License-Identifier: MIT
// What claims about nested tables share: entries in the format of the vendor at hand.
#pragma once

#include "conformance/claim.hpp"
#include "refhv/client/guest.hpp"

namespace refhv::front {

// Rights as abi::NestedProtect has them.
inline constexpr u32 may_read = 1, may_write = 2, may_execute = 4, may_all = 7;

// A leaf of `level` in the EPT (SDM 3C tables 29-3, 29-5, 29-6): write-back, PAT heeded.
[[nodiscard]] constexpr u64 ept_leaf(u64 gpa, unsigned level, u32 rights) {
    constexpr u64 write_back = 6u << 3, large = 1u << 7;
    return gpa | rights | write_back | (level > 1 ? large : 0);
}

// A leaf of `level` in the nested page tables (APM 2 5.3.3, 5.3.4): a user page, PAT entry 0.
[[nodiscard]] constexpr u64 npt_leaf(u64 gpa, unsigned level, u32 rights) {
    constexpr u64 p = 1, rw = 2, us = 4, large = 1u << 7, nx = u64{1} << 63;
    return gpa | (rights != 0 ? p : 0) | us | ((rights & may_write) != 0 ? rw : 0) |
           ((rights & may_execute) != 0 ? 0 : nx) | (level > 1 ? large : 0);
}

class NestedClaim : public Claim {
  protected:
    [[nodiscard]] static u64 leaf(u64 gpa, unsigned level, u32 rights) {
        return on_vmx() ? ept_leaf(gpa, level, rights) : npt_leaf(gpa, level, rights);
    }
    // A policy entry without a length.
    [[nodiscard]] static abi::PolicyEntry answer(abi::Reason reason, abi::Action action) {
        return {
            .reason = static_cast<u16>(reason), .action = static_cast<u8>(action), .length = 0, .event = 0};
    }
    static void expect_stopped(const client::RunResult& r) {
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt)
            << "qualification " << std::hex << r.reply.exit.qualification << ", guest-physical "
            << r.reply.exit.guest_physical;
        EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    }
};

} // namespace refhv::front
