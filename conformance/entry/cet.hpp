// SPDX-License-Identifier: MIT
// What claims about a guest's CET state share.
#pragma once

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"
#include "refhv/front/controls.hpp"

#include <optional>

namespace refhv::front {

// The registers that the "load CET state" controls are about: IA32_S_CET, SSP, IA32_INTERRUPT_SSP_TABLE_ADDR.
struct Cet {
    u64 s_cet = 0, ssp = 0, table = 0;
};

namespace cet {
inline constexpr u32 guest_s_cet = 0x6828, host_s_cet = 0x6c18; // SSP and the table 2 and 4 further
inline constexpr u64 entry_load_cet = 1u << 20, exit_load_cet = 1u << 28;
inline constexpr u64 shadow_stack = 1u << 0, endbranch = 1u << 2, no_track = 1u << 4; // of IA32_S_CET
inline constexpr u64 cr4_cet = 1u << 23;
inline constexpr u32 control_protection = 21;
inline constexpr u64 stack_top = client::layout::arena + page_size / 2;
} // namespace cet

class EntryCet : public Claim {
  protected:
    // A guest with CR4.CET, a page of shadow stack in its arena, and an MSR bitmap that lets all through.
    class CetGuest {
      public:
        explicit CetGuest(client::GuestCode code);
        client::Guest& vm() { return guest_; }
        // The three fields, from that of S_CET on.
        void put(const Cet& cet, u32 first = cet::guest_s_cet);
        // `guests`: what the entry loads; nothing: it does not. `hosts`: what the exit loads.
        client::RunResult run(const std::optional<Cet>& guests, const std::optional<Cet>& hosts);
        // As the last exit left the guest's fields.
        [[nodiscard]] Cet saved();

      private:
        client::Guest guest_;
        u64 entry_ = 0, exit_ = 0; // controls as the core has them
    };

    static void expect_stopped(const client::RunResult& r);
    // It stopped, with this in R8, R9 and R10.
    static void expect_seen(const client::RunResult& r, const Cet& cet);
};

} // namespace refhv::front
