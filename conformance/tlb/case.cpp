// SPDX-License-Identifier: MIT
#include "conformance/tlb/case.hpp"

namespace refhv::front {

client::Guest TlbInvalidation::guest(client::Plan plan) {
    plan.arena_pages = 3;
    plan.intercepts |= client::on(abi::Intercept::cpuid);
    plan.policy.push_back({.reason = static_cast<u16>(abi::Reason::cpuid),
                           .action = static_cast<u8>(abi::Action::advance),
                           .length = 2,
                           .event = 0});
    client::Guest guest(host(), plan);
    put(guest, page, old_value);
    put(guest, other, new_value);
    put(guest, other_table, other | page_entry);
    guest.state.gpr[abi::rsi] = page;
    return guest;
}

client::RunResult TlbInvalidation::begin(client::Guest& guest) {
    return guest.run({.repeats = 1});
}

client::RunResult TlbInvalidation::go_on(client::Guest& guest) {
    return guest.run({.repeats = 1, .set_state = false});
}

void TlbInvalidation::expect_visible(const client::RunResult& r, Change change) {
    ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
    EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
    EXPECT_EQ(r.reply.state.gpr[abi::r8], old_value) << "before";
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    if (change == Change::moved) {
        EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
        EXPECT_EQ(r.reply.state.gpr[abi::r9], new_value) << "the page that stands there now";
    } else {
        EXPECT_EQ(r.exceptions.count, 1u)
            << "the page is gone; read " << std::hex << r.reply.state.gpr[abi::r9];
        EXPECT_EQ(r.exceptions.vector, 14u);
        EXPECT_EQ(r.exceptions.error, 0u);
    }
}

} // namespace refhv::front
