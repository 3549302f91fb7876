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

// A write under CR0.WP = 0 may go to an entry whose R/W is 0. SDM 3A 4.8 says of every write that it sets the
// dirty flag, and of a CPU with CET that it never sets it in such an entry: claims leave open which of the
// two holds, and have the flag set beforehand on such CPUs.
[[nodiscard]] inline bool open_dirty_flag(const client::HelloInfo& hello) {
    constexpr u32 shadow_stacks = 1u << 7, branch_tracking = 1u << 20; // CPUID.7.0: ECX, EDX
    constexpr unsigned ecx = 2, edx = 3;
    return (cpuid(hello, 7, 0, ecx) & shadow_stacks) != 0 || (cpuid(hello, 7, 0, edx) & branch_tracking) != 0;
}

class PagingClaim : public Claim {
  protected:
    static void expect_stopped(const client::RunResult& r) {
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        ASSERT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt)
            << "qualification " << std::hex << r.reply.exit.qualification << " RIP " << r.reply.state.rip;
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    }

    // Calls check(mode), which returns how many cases it has tried. Ends with the first mode that fails: what
    // the CPU itself does wrong under nested tables the other modes would show again, at length.
    template <class F>
    void in_every_mode(F check) {
        u64 tried = 0;
        for (const abi::Mode mode : {abi::Mode::nested, abi::Mode::shadow, abi::Mode::vtlb}) {
            SCOPED_TRACE(client::name_of(mode));
            tried += check(mode);
            if (HasFailure()) {
                break;
            }
        }
        combinations(tried);
    }
};

} // namespace refhv::front
