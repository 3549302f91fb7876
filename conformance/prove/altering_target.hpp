// SPDX-License-Identifier: MIT
// A target between the claims and the subject that can alter one part of every reply: what a claim does not
// notice there, it does not look at.
#pragma once

#include "refhv/client/target.hpp"

#include <memory>
#include <optional>

namespace refhv::front {

// Of replies. The outcome is the last: a claim that notices nothing else says little.
enum class Part : u8 {
    rip,
    reason,
    qualification,
    instruction, // its length, the next RIP, the instruction information
    events,      // interruption and vectoring information, the vector
    addresses,   // guest-physical and guest-linear
    registers,   // general ones
    flags,
    control, // CR0 to CR8, EFER, XCR0
    debug,
    segments, // descriptor tables too
    msrs,
    counts,  // of exits, entries, handled exits
    refusal, // of an entry
    memory,  // what is read of the guest's
    fields,  // what is read of the VMCS or VMCB
    nested,  // what is read of nested tables, and invalidations
    log,     // of exits, stamps, a peer's acts
    time,    // of the run
    host,    // HostState bits
    outcome,
    count_,
};
[[nodiscard]] const char* name_of(Part part);

class AlteringTarget : public client::Target {
  public:
    explicit AlteringTarget(std::unique_ptr<client::Target> subject) : subject_(std::move(subject)) {}

    // From now on; none: replies are the subject's own.
    void alter(std::optional<Part> part) { part_ = part; }
    // Whether a reply since the last alter() had such a part.
    [[nodiscard]] bool has_altered() const { return altered_; }
    void forget() { altered_ = false; }

    [[nodiscard]] const client::TargetInfo& info() const override { return subject_->info(); }
    const client::HelloInfo& hello() override { return subject_->hello(); }
    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds patience) override;
    // Not for the sake of an altered reply.
    void stop() override {
        if (!part_) {
            subject_->stop();
        }
    }
    [[nodiscard]] unsigned generation() const override { return subject_->generation(); }

  private:
    std::unique_ptr<client::Target> subject_;
    std::optional<Part> part_;
    bool altered_ = false;
};

} // namespace refhv::front
