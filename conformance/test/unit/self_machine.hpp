// SPDX-License-Identifier: MIT
// The `self` target with one VM in slot 0, for tests that speak the contract in full.
#pragma once

#include "refhv/client/batch.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/client/target.hpp"

#include <chrono>
#include <memory>

namespace refhv::client {

class SelfMachine {
  public:
    static constexpr u32 slot = 0;
    static constexpr u64 pages = 1024;
    static constexpr std::chrono::milliseconds patience{20'000};

    struct Ended {
        abi::Outcome outcome{};
        abi::RunReply reply{};
        std::vector<abi::HostStamp> stamps;
        [[nodiscard]] abi::Reason reason() const { return static_cast<abi::Reason>(reply.exit.reason); }
        [[nodiscard]] u64 count(abi::Reason reason) const { return reply.counts[static_cast<usize>(reason)]; }
        [[nodiscard]] u64 gpr(abi::Gpr r) const { return reply.state.gpr[r]; }
    };

    SelfMachine();

    [[nodiscard]] Target& target() { return *target_; }
    // The outcome and text of one operation.
    struct Answer {
        abi::Outcome outcome{};
        std::vector<u8> body;
        std::string text;
    };
    template <class Body>
    [[nodiscard]] Answer ask(abi::Op op, const Body& body, std::span<const u8> data = {}) {
        return ask(Batch{}.add(op, body, data)).at(0);
    }
    [[nodiscard]] std::vector<Answer> ask(const Batch& batch);

    abi::GuestState state{}; // what the next run starts with; at first all zero but rip, rsp
    std::vector<abi::PolicyEntry> policy;
    abi::Run options{};

    // Writes the code to layout::code and an INT3 behind it, and runs it.
    [[nodiscard]] Ended run(GuestCode code);

  private:
    std::unique_ptr<Target> target_;
};

[[nodiscard]] constexpr abi::PolicyEntry answer_with(abi::Reason reason, abi::Action action, u8 length = 0) {
    return {
        .reason = static_cast<u16>(reason), .action = static_cast<u8>(action), .length = length, .event = 0};
}

} // namespace refhv::client
