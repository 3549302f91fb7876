// SPDX-License-Identifier: MIT
// What claims about nested tables share.
#pragma once

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"
#include "refhv/front/guests/nested_leaf.hpp"

namespace refhv::front {

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
