// SPDX-License-Identifier: MIT
// Events that a VM entry injects: the same event in each vendor's format, a guest to receive it, and what the
// guest's handler must find.
#pragma once

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

enum class EventType : u8 {
    external_interrupt,
    nmi,
    hardware_exception,
    software_interrupt,  // INT n
    software_exception,  // INT3, INTO; VMX only
    privileged_software, // INT1; VMX only
};

struct Event {
    EventType type;
    u8 vector;
    bool has_error = false;
    u32 error = 0;
    u32 length = 0; // of the instruction that a software event stands for
};

[[nodiscard]] std::string to_string(const Event& event);

// Vectors that push an error code (SDM 3A table 6-1; APM 2 table 8-1).
[[nodiscard]] constexpr bool pushes_error(u8 vector) {
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

class Inject : public Claim {
  protected:
    static constexpr u8 free_vector = 28; // no exception of x86's, no error code

    // VM-entry interruption information (SDM 3C table 25-17), or EVENTINJ (APM 2 15.20). The vectoring
    // information of an exit has the same bits.
    [[nodiscard]] static u64 encode(const Event& event);
    // Queues the event for the guest's next entry.
    static void inject(client::Guest& guest, const Event& event);
    // The guest that takes it: runs into its stop stub after a NOP.
    [[nodiscard]] static client::RunResult run_with(const Event& event, u64 rflags = 2);
    static void expect_delivered(const Event& event, const client::RunResult& r);

    [[nodiscard]] static std::vector<Event> exceptions();
    // Those, an external interrupt, an NMI, and VMX's software events.
    [[nodiscard]] static std::vector<Event> all_events();
    // Events after which a further exception makes no double fault (SDM 3A table 6-5; APM 2 table 8-3).
    [[nodiscard]] static std::vector<Event> benign_events();

    // Queues the event while its gate is not present: delivery ends in #NP.
    static void meet_missing_gate(client::Guest& guest, const Event& event);
    // Marked as no hardware event's doing where it is a software one's (SDM 3A 6.13; APM 2 8.4.1).
    [[nodiscard]] static u32 missing_gate_error(const Event& event);
};

} // namespace refhv::front
