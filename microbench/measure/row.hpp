// SPDX-License-Identifier: MIT
// A benchmark, declared: guest bytes, controls, what must happen, and the claims it rests on.
#pragma once

#include "refhv/front/session.hpp"

#include <functional>
#include <optional>

namespace refhv::bench {

struct Measurement;

// How the operation is timed in mode nested. In the other modes it is always the guest's clock.
enum class Clock {
    guest, // two stamps around the operation in the guest
    host, // the guest cannot stamp: from one exit's first host instruction to the next one's; `repeated` runs
    host_unprompted // likewise, and the exits need no instruction: `repeated` is where the guest spins
};

struct Row {
    const char* name;                   // "exit.cpuid"; "/mode" is put behind it
    const char* claims_about = nullptr; // subject of the claims Exit.<subject>_...; null: none
    client::SampledGuest guest{};
    Clock clock = Clock::guest;
    client::GuestCode repeated{};

    // Mode nested. The exit that each operation causes; none: it must not exit.
    abi::Reason reason = abi::Reason::none;
    // A second exit of each operation, behind the first, which the core answers by itself
    // (abi::Delivery::when_open).
    abi::Reason second = abi::Reason::none;
    // One of each operation that the core takes for itself: no policy sees it, no stamp is taken.
    abi::Reason unseen = abi::Reason::none;
    u64 intercepts = 0; // bit per abi::Intercept
    u32 exceptions = 0; // bit per vector
    u32 event = 0;      // of Action::deliver
    std::vector<abi::MsrIntercept> msrs{};
    std::vector<abi::IoIntercept> ports{};
    abi::Action action = abi::Action::advance;
    u8 length = 0; // of the instruction, for CPUs that do not say
    bool page_each =
        false; // every operation touches a page of layout::arena that the nested tables do not map
    client::Stop stop = client::Stop::hlt;
    bool osxsave = false;

    // The guest's own paging is the subject: modes nested, where nothing may exit, shadow and vtlb, where
    // exits are counted by operation.
    bool paging = false;
    client::GuestCode page_fault{};                          // the guest's own handler, at layout::handler
    u64 arena_pages = 0;                                     // mapped by the guest and by the nested tables
    std::function<void(abi::Mode, client::Plan&)> plan{};    // what the fields above do not say
    std::function<void(abi::Mode, client::Guest&)> build{};  // queued behind the builder's own
    std::function<void(client::Guest&)> before_run{};        // likewise, before each run
    std::function<void(abi::Mode, Measurement&)> describe{}; // facts for the record
    u32 batch = 1;                     // operations a round; results are of one operation
    u32 preemption_timer = 0;          // mode nested: abi::Run::preemption_timer
    u32 extra_count = 0;               // mode nested: abi::Run::extra_count
    u64 extras = 0;                    // mode nested: abi::Run::extras
    u64 most_rounds = 0;               // of a run of 2n; 0: as many as asked for
    std::optional<u64> shadow_exits{}; // mode shadow: the exits of one operation, no more and no fewer

    bool native = false; // harmless and meaningful in ring 0 without virtualization
    bool user = false;   // likewise in an ordinary process
    bool kvm = false;    // meaningful in a guest of KVM, beside those that `native` and `user` say are
    client::GuestCode restore{}; // mode native: undoes behind the loop what the operation really did

    // Why a machine lacks it; empty: it has it.
    std::string (*missing)(const client::HelloInfo&) = nullptr;
    // The exit is one vendor's only.
    std::optional<abi::Vendor> vendor{};

    // Rows that no sample loop measures: what they do instead, given the mode and the number of samples asked
    // for. May throw as measure() knows it (Invalid, NotHere). Their claims are those of `rests_on` alone.
    std::function<void(abi::Mode, u64, Measurement&)> by_itself{};
    std::vector<std::string> rests_on{};         // further claims, full names
    std::vector<std::string> rests_on_in_mode{}; // likewise; the mode's name is put behind
    std::vector<abi::Mode> modes{};              // all of them, where the flags above do not say it
};

// Every declared row, in the order of declaration within a file, control.empty first.
[[nodiscard]] std::vector<const Row*> rows();

// `const Declare cpuid{{.name = "exit.cpuid", ...}};` at namespace scope adds a row.
struct Declare {
    explicit Declare(Row row);
};

// Exits of one operation, where it exits at all.
[[nodiscard]] constexpr u64 exits_each(const Row& row) {
    return row.second == abi::Reason::none ? 1 : 2;
}

// The modes that a row has, in the order nested, shadow, vtlb, native, user, kvm.
[[nodiscard]] std::vector<abi::Mode> modes_of(const Row& row);
// GoogleTest full names of the claims that the row rests on in that mode.
[[nodiscard]] std::vector<std::string> claims_of(const Row& row, abi::Mode mode);
[[nodiscard]] std::string full_name(const Row& row, abi::Mode mode);

} // namespace refhv::bench
