// SPDX-License-Identifier: MIT
// A core in C++ that runs no guest at all: it decodes requests as the real one does, keeps guest memory, and
// answers a run from a script. What a test breaks in the script must make the front ends refuse the number.
#pragma once

#include "refhv/client/batch.hpp"
#include "refhv/client/guest/layout.hpp"
#include "refhv/client/target.hpp"

#include <functional>
#include <map>

namespace refhv::test {

class FakeTarget : public client::Target {
  public:
    struct Request { // one operation as it came
        abi::Op op;
        std::vector<u8> body;
    };
    // What the machine does. Defaults: an Intel machine whose operations cost `operation` ticks beyond
    // `pair`.
    struct Behaviour {
        u64 pair = 5;
        u64 operation = 20;
        u64 host_stamp = 7;                      // extra ticks of a host-stamped exit
        abi::Reason reason = abi::Reason::cpuid; // of every operation's exit
        abi::Reason second = abi::Reason::none;  // of another one that it makes
        abi::Reason unseen = abi::Reason::none;  // of one that no policy and no stamp sees
        u64 between = 6;                         // ticks from the one to the other
        i64 extra_exits = 0;                     // more or fewer than one an operation
        unsigned lossy_run = 0;                  // the run of this number, from 1, loses an exit
        u32 instruction_error = 0;               // of every invalidation
        u64 entries = 1;                         // of a run
        u32 host_changed = 0;
        u64 exceptions = 0;
        u64 interrupted_runs = 0; // so many runs report an interrupt
        u64 disturbed = 0;        // so many samples of a run have ES cleared
        u64 drift = 0;            // ticks that the operation costs outside of the stamps
        u64 timer_late = 0;       // ticks of a preemption timer that is not 0
        bool dies = false;        // call() throws TargetMiss
        u64 coarse = 1;           // the counted guest's clock moves by so many ticks at a time
        bool free_cpuid = false;  // in it CPUID takes no tick
        u64 lost_cpuids = 0;      // so many of its exits do not happen
        abi::Outcome counted = abi::Outcome::exited; // how it ends
        abi::Outcome create = abi::Outcome::ok;
        u64 unsupported = 0;
    };
    Behaviour behaviour;
    std::vector<Request> requests;
    unsigned runs = 0;         // without those of the counted guest, which proves the clock
    unsigned counted_runs = 0; // and these

    FakeTarget();
    const client::TargetInfo& info() const override { return info_; }
    const client::HelloInfo& hello() override;
    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds patience) override;
    void stop() override {}
    unsigned generation() const override { return generation_; }
    void start_afresh() {
        ++generation_;
        vm_ = false;
    }
    void set_counts_instructions(bool does) { info_.counts_instructions = does; }
    void set_real_time() { info_.emulated = info_.counts_instructions = false; }
    void set_tick_rules(const client::TickRules& rules) { info_.tick_rules = rules; }

    // Guest memory as the operations left it.
    [[nodiscard]] u8 byte(u64 gpa) const;
    [[nodiscard]] u64 quad(u64 gpa) const;

    client::HelloInfo greeting;

  private:
    void write(u64 gpa, std::span<const u8> bytes);
    abi::Outcome answer(abi::Op op, std::span<const u8> body, std::vector<u8>& out);
    abi::Outcome run(const abi::Run& what, std::vector<u8>& out);
    abi::Outcome fire(const abi::Run& what, std::vector<u8>& out);
    abi::Outcome run_counted(u64 rounds, std::vector<u8>& out);
    [[nodiscard]] bool counted_loaded() const;
    [[nodiscard]] bool control_loaded() const;

    client::TargetInfo info_;
    std::map<u64, u8> memory_;
    abi::GuestState state_{};
    abi::Mode mode_{};
    u64 intercepts_ = 0;
    u64 clock_ = 1'000;
    unsigned generation_ = 1;
    bool vm_ = false;
};

} // namespace refhv::test
