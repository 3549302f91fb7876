// SPDX-License-Identifier: MIT
// The one target of a process, and how it is doing.
#pragma once

#include "refhv/front/tick_proof.hpp"

#include <optional>

namespace refhv::front {

class Session {
  public:
    static Session& get();

    // Throws TargetUnusable. Starts nothing.
    void open(const std::string& name);
    // A target of one's own.
    void adopt(std::unique_ptr<client::Target> target);
    // The target, for one that stands before it and is adopted instead.
    [[nodiscard]] std::unique_ptr<client::Target> release();
    [[nodiscard]] bool is_open() const { return target_ != nullptr; }

    [[nodiscard]] const client::TargetInfo& info() const { return target_->info(); }
    // The greeting; brings the target up where it is not. Throws TargetMiss, TargetUnusable; after
    // `max_failed_starts` failures in a row at once, so that a dead target does not cost its start-up time
    // for every case. An image whose time is real is held to that at each start: see counts_instructions.
    const client::HelloInfo& hello();
    // The last greeting, also of a target that has died since. Null: there never was one.
    [[nodiscard]] const client::HelloInfo* greeting() const { return greeting_ ? &*greeting_ : nullptr; }
    // From the first call of hello() to the greeting.
    [[nodiscard]] double seconds_to_hello() const { return seconds_; }

    [[nodiscard]] bool offers(abi::Mode mode);
    [[nodiscard]] abi::Vendor vendor() { return static_cast<abi::Vendor>(hello().fixed.vendor); }
    // For Guest. Checks that the target is up.
    client::GuestHost& host();
    // Where ticks are instructions: the proof of the launch at hand, made with the first call behind each
    // start of the target. It takes the VM slot of host(). Null elsewhere. Throws TargetMiss.
    const TickProof* tick_proof();
    // Those of all launches so far.
    [[nodiscard]] const std::vector<TickProof>& tick_proofs() const { return tick_proofs_; }
    static constexpr u32 second_slot = 1;
    // For a guest beside that one; its creator destroys it (Guest::drop).
    client::GuestHost& second_host();
    // Stops the target; the next call of hello() brings up a new one, with nothing of this one's state.
    void restart();
    void close();
    // Claims that share what was tried once do so within a trial: a new one tries again.
    void begin_trial() { ++trial_; }
    [[nodiscard]] u64 trial() const { return trial_; }

  private:
    void expect_real_time(const client::HelloInfo& greeting);

    static constexpr unsigned max_failed_starts = 2;

    std::unique_ptr<client::Target> target_;
    std::optional<client::GuestHost> host_, second_host_;
    std::optional<client::HelloInfo> greeting_;
    std::vector<TickProof> tick_proofs_;
    std::optional<unsigned> proved_generation_;
    std::optional<unsigned> real_time_generation_; // of the start whose time was found not to count
    double seconds_ = 0;
    unsigned failed_starts_ = 0;
    u64 trial_ = 0;
};

// Register of a CPUID leaf in the greeting: "eax", "ebx", "ecx" or "edx" as index 0 to 3; 0 if the leaf is
// not there.
[[nodiscard]] u32 cpuid(const client::HelloInfo& hello, u32 leaf, u32 subleaf, unsigned reg);
// A capability MSR of the greeting; 0 where the CPU has none.
[[nodiscard]] u64 msr(const client::HelloInfo& hello, u32 index);
inline constexpr u32 apic_base_msr = 0x1b;
// Are the target's local APICs in x2APIC mode?
[[nodiscard]] bool in_x2apic_mode(const client::HelloInfo& hello);

} // namespace refhv::front
