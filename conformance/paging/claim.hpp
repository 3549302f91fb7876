// SPDX-License-Identifier: MIT
// What claims about a guest's own paging share.
#pragma once

#include "refhv/client/guest/guest.hpp"
#include "refhv/client/guest/vm.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

template <class T>
[[nodiscard]] std::span<const u8> bytes_of(const T& object) {
    return {reinterpret_cast<const u8*>(&object), sizeof object};
}

class PagingClaim : public Claim {
  protected:
    static void expect_stopped(const client::RunResult& r) {
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        ASSERT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt)
            << "qualification " << std::hex << r.reply.exit.qualification << " RIP " << r.reply.state.rip;
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    }

    // Calls check(mode), which returns how many cases it has tried.
    template <class F>
    void in_every_mode(F check) {
        u64 tried = 0;
        for (const abi::Mode mode : {abi::Mode::nested, abi::Mode::shadow, abi::Mode::vtlb}) {
            SCOPED_TRACE(client::name_of(mode));
            tried += check(mode);
        }
        combinations(tried);
    }
};

} // namespace refhv::front
