// SPDX-License-Identifier: MIT
#include "conformance/tlb_case.hpp"

namespace refhv::front {

client::Guest TlbInvalidation::guest(client::Plan plan) {
    plan.arena_pages = plan.arena_pages != 0 ? plan.arena_pages : 2;
    plan.intercepts |= client::on(abi::Intercept::cpuid);
    plan.policy.push_back({.reason = static_cast<u16>(abi::Reason::cpuid),
                           .action = static_cast<u8>(abi::Action::advance),
                           .length = 2,
                           .zero = 0});
    client::Guest guest(host(), plan);
    guest.write(page, {reinterpret_cast<const u8*>(&old_value), sizeof old_value});
    guest.write(other, {reinterpret_cast<const u8*>(&new_value), sizeof new_value});
    guest.state.gpr[abi::rsi] = page;
    guest.state.gpr[abi::rdi] = other;
    return guest;
}

client::RunResult TlbInvalidation::begin(client::Guest& guest) {
    return guest.run({.repeats = 1});
}

client::RunResult TlbInvalidation::go_on(client::Guest& guest) {
    return guest.run({.repeats = 1, .set_state = false});
}

} // namespace refhv::front
