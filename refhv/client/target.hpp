// SPDX-License-Identifier: MIT
// A target: something that runs guests and answers in the terms of abi.hpp. The one virtual interface of
// refhv.
#pragma once

#include "refhv/client/emulator.hpp"
#include "refhv/contract/abi.hpp"

#include <chrono>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace refhv::client {

// The machine did not answer: the target died, hung, or spoke rubbish. Verdict MISS. The message is one line.
struct TargetMiss : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The target cannot be used here at all (program not installed, no permission). The message names what to do.
struct TargetUnusable : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The name asks for a target that cannot be: the caller's error. The message says what is wrong with it.
struct BadTargetName : TargetUnusable {
    using TargetUnusable::TargetUnusable;
};

// What a tick is where ticks are instructions. Declared, not measured: the proof at launch holds the target
// to it (refhv/front/tick_proof.hpp).
struct TickRules {
    u32 step = 1;                   // the TSC moves by so many at a time
    bool exiting_counts = true;     // an instruction that exits takes a tick, though it is not executed
    bool string_end_counts = false; // REP takes a tick more, in which it finds that the count is 0
};

// What a target is, known before it is started.
struct TargetInfo {
    std::string name;    // "bochs-intel"
    std::string kind;    // "image", "process", "module", "kvm"
    std::string backend; // "vmx", "svm", "none"
    bool emulated;       // its time is the emulator's
    std::string unit;    // "ticks" where emulated, "cycles" (of the TSC) on hardware
    std::string description;
    bool counts_instructions = emulated; // a tick is an instruction; else emulated time is the emulator's own
    TickRules tick_rules{};
    Emulator emulator{};    // the one that is installed, asked when the target is opened
    bool settled = true;    // false until the greeting: only it tells backend, and what its time is
    bool elsewhere = false; // it may run on another machine than this
};

// The core's greeting, decoded.
struct HelloInfo {
    abi::HelloReply fixed{};
    std::vector<abi::CpuidLeaf> cpuid;
    std::vector<abi::MsrValue> msrs;
    std::vector<abi::CpuInfo> cpus; // by number; empty where the target cannot tell them apart
};

class Target {
  public:
    Target() = default;
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;
    virtual ~Target() = default;

    [[nodiscard]] virtual const TargetInfo& info() const = 0;

    // Brings the target up and returns its greeting; a second call is free. Throws TargetMiss,
    // TargetUnusable.
    virtual const HelloInfo& hello() = 0;

    // Sends one request payload and returns the reply payload. `patience` bounds the wait; on expiry, death
    // or rubbish the target is killed and TargetMiss thrown; the next hello() or call() starts it afresh.
    virtual std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds patience) = 0;

    // Ends the target, cleanly if it still answers. Also done by the destructor.
    virtual void stop() = 0;

    // How often it has been started. A change tells that the VMs inside it are gone.
    [[nodiscard]] virtual unsigned generation() const = 0;
};

// One line of the target table (targets.cpp).
struct TargetEntry {
    TargetInfo info;
    std::string unusable; // empty: usable; else the reason and what to do, one line
};

// Every target this build knows, with whether it can be used here, and which emulator is installed. Starts no
// machine.
[[nodiscard]] std::vector<TargetEntry> list_targets();

// A target whose name says what it is: "serial:DEV".
struct TargetForm {
    std::string usage, description;
};
[[nodiscard]] std::vector<TargetForm> list_forms();

// Throws BadTargetName if the name is unknown (the message lists the known ones) or the target cannot be
// used.
[[nodiscard]] std::unique_ptr<Target> open_target(std::string_view name);

} // namespace refhv::client
