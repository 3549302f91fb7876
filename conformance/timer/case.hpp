// SPDX-License-Identifier: MIT
// Claims about the local APIC's timer: a guest that uses it, and what it left in its scratch memory.
#pragma once

#include "refhv/front/claim.hpp"
#include "refhv/front/guests/apic_timer_guest.hpp"

namespace refhv::front {

class TimerCase : public Claim {
  protected:
    using Registers = std::initializer_list<std::pair<abi::Gpr, u64>>;

    [[nodiscard]] abi::Mode mode() const override { return abi::Mode::native; }

    static client::RunResult run(client::Guest& guest, client::GuestCode code, client::GuestCode handler,
                                 Registers registers) {
        guest.fill(REFHV_SCRATCH, 0, 0, 8, false);
        take_timer(guest, handler);
        for (const auto& [which, value] : registers) {
            guest.state.gpr[which] = value;
        }
        guest.load(code);
        auto r = guest.run({});
        EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        return r;
    }
    // The first words of the scratch memory behind a guest in mode native.
    static std::vector<u64> left_by(client::GuestCode code, client::GuestCode handler, Registers registers,
                                    u64 words) {
        client::Guest guest(host(), {.mode = abi::Mode::native, .arena_pages = 1});
        const auto r = run(guest, code, handler, registers);
        EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::int_n);
        return guest.read64(REFHV_SCRATCH, words);
    }
    void claim_with_timer(const Section& section, std::string (*missing)(const client::HelloInfo&),
                          const std::function<void()>& body) {
        claim(section, [&] {
            if (const std::string why = missing(hello()); !why.empty()) {
                GTEST_SKIP() << why;
            }
            body();
        });
    }
};

} // namespace refhv::front
