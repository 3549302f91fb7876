// SPDX-License-Identifier: MIT
#include "microbench/measure/sampling.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;

namespace {

client::Plan plan_of(const Row& row, Mode mode, u64 most) {
    client::Plan plan;
    plan.mode = mode;
    plan.sample_pages = client::layout::sample_pages;
    plan.osxsave = row.osxsave;
    plan.arena_pages = row.arena_pages;
    if (row.plan) {
        row.plan(mode, plan);
    }
    if (mode == Mode::kvm && comes_to_us(row, mode)) {
        plan.stop = row.stop;
        plan.policy.push_back({.reason = static_cast<u16>(row.reason),
                               .action = static_cast<u8>(abi::Action::advance),
                               .length = 0,
                               .event = 0});
    }
    if (mode != Mode::nested) {
        return plan;
    }
    plan.arena_pages += row.page_each ? most : 0;
    plan.stop = row.stop;
    plan.intercepts = row.intercepts;
    plan.exceptions = row.exceptions;
    plan.msrs = row.msrs;
    plan.ports = row.ports;
    if (row.reason != Reason::none) {
        plan.policy.push_back({.reason = static_cast<u16>(row.reason),
                               .action = static_cast<u8>(row.action),
                               .length = row.length,
                               .event = row.event});
    }
    return plan;
}

// An interrupt takes a host stamp too; the run that it fell into is to end like any other all the same.
constexpr u32 room_for_disturbances = 64;

// How a guest's stop looks from outside.
Reason stop_reason(const Row& row, Mode mode) {
    switch (mode) {
    case Mode::native:
        return Reason::int_n;
    case Mode::user:
        return Reason::exception;
    default:
        return row.stop == client::Stop::hlt ? Reason::hlt : Reason::io_out;
    }
}

bool is_disturbance(Reason reason) {
    return reason == Reason::external_interrupt || reason == Reason::nmi || reason == Reason::smi;
}

std::string times(u64 count, Reason reason) {
    return std::to_string(count) + " × " + client::name_of(reason);
}

} // namespace

bool comes_to_us(const Row& row, Mode mode) {
    switch (mode) {
    case Mode::nested:
        return row.reason != Reason::none;
    case Mode::kvm:
        return row.reason == Reason::io_in || row.reason == Reason::io_out || row.reason == Reason::hlt;
    default:
        return false;
    }
}

Sampling::Sampling(const Row& row, Mode mode, u64 most)
    : row_(row), mode_(mode), guest_(front::Session::get().host(), plan_of(row, mode, most)), most_(most) {
    if (row.build) {
        row.build(mode, guest_);
    }
    if (row.page_fault.begin != nullptr) {
        take_page_faults();
    }
    if (mode == Mode::nested && (guest_.settle().unsupported & row.intercepts) != 0) {
        throw NotHere("this CPU cannot make it exit");
    }
}

// The gate's type and selector are the builder's.
void Sampling::take_page_faults() {
    namespace layout = client::layout;
    constexpr u64 gate = layout::idt + u64{14} * 16;
    constexpr u16 low = layout::handler & 0xffff, middle = layout::handler >> 16;
    const auto put = [&](u64 gpa, u16 value) { guest_.write(gpa, {reinterpret_cast<const u8*>(&value), 2}); };
    guest_.write(layout::handler, row_.page_fault.bytes());
    put(gate, low);
    put(gate + 6, middle);
}

client::RunResult Sampling::loop(Program program, u64 rounds, Keep keep, bool host_stamps) {
    const bool operation = program == Program::operation;
    const auto code = operation ? row_.guest.operation : row_.guest.control;
    guest_.load(code, 1, mode_ == Mode::native && operation ? row_.restore : client::GuestCode{});
    // One more than the exits to come, so that the guest and not the limit ends the run.
    const u32 limit = host_stamps ? static_cast<u32>(rounds * exits_each(row_) + 1) : 0;
    const bool exits = operation && comes_to_us(row_, mode_);
    return run({.rounds = rounds,
                .samples = keep == Keep::none ? 0 : rounds,
                .repeats = limit,
                .stamps = host_stamps ? limit + room_for_disturbances : 0,
                .preemption_timer = row_.preemption_timer,
                .extra_count = exits ? row_.extra_count : 0,
                .extras = exits ? row_.extras : 0},
               exits ? rounds : 0, false);
}

client::RunResult Sampling::exits(u64 exits) {
    // An exit is stamped once it is answered, so there is one more than is wanted: the guest's own stop, or
    // one that only the limit ends.
    const u64 limit = exits + 1;
    const bool unprompted = row_.clock == Clock::host_unprompted;
    guest_.load(row_.repeated, unprompted ? 1 : static_cast<u32>(exits));
    return run({.repeats = limit,
                .stamps = static_cast<u32>(limit) + room_for_disturbances,
                .preemption_timer = row_.preemption_timer},
               unprompted ? limit : exits, unprompted);
}

client::RunResult Sampling::run(const Guest::Options& options, u64 due, bool until_repeats) {
    constexpr unsigned attempts = 3;
    for (unsigned attempt = 1;; ++attempt) {
        if (mode_ == Mode::nested && row_.page_each) {
            guest_.protect(client::layout::arena, most_, 0);
        }
        if (row_.before_run) {
            row_.before_run(guest_);
        }
        auto r = guest_.run(options);
        check(r, due, until_repeats);
        if (mode_ == Mode::user || mode_ == Mode::kvm || r.reply.interrupts + r.reply.nmis == 0) {
            return r; // in a process the samples themselves say which of them were disturbed
        }
        discarded_ += due;
        if (attempt == attempts) {
            throw Invalid("interrupts fell into " + std::to_string(attempts) + " runs in a row");
        }
    }
}

void Sampling::check(const client::RunResult& r, u64 due, bool until_repeats) {
    const bool seen = comes_to_us(row_, mode_);
    count_ = {.reason = seen ? client::name_of(row_.reason) : "",
              .expected = due,
              .counted = seen ? r.count(row_.reason) : 0};
    if (row_.second != Reason::none) {
        count_.reason += std::string(" + ") + client::name_of(row_.second);
        count_.expected += due;
        count_.counted += r.count(row_.second);
    }
    const auto reason = static_cast<Reason>(r.reply.exit.reason);
    if (r.exceptions.count != 0) {
        throw Invalid("the guest took " + std::to_string(r.exceptions.count) +
                      " exceptions, the first of vector " + std::to_string(r.exceptions.vector) + " at RIP " +
                      std::to_string(r.exceptions.rip));
    }
    const auto wanted = until_repeats ? abi::Outcome::repeats_done : abi::Outcome::exited;
    if (r.outcome != wanted) {
        const abi::Refusal& refusal = r.reply.refusal;
        throw Invalid(std::string("the run ended by ") + client::name_of(r.outcome) +
                      (r.outcome == abi::Outcome::entry_refused
                           ? " (entry failure " + std::to_string(refusal.entry_failure) + ", qualification " +
                                 std::to_string(refusal.qualification) + ")"
                           : "") +
                      ", not by " + client::name_of(wanted));
    }
    const Reason stop = stop_reason(row_, mode_);
    if (!until_repeats && (reason != stop || (mode_ == Mode::native &&
                                              r.reply.exit.vector != client::layout::native_stop_vector))) {
        throw Invalid(std::string("the guest stopped by ") + client::name_of(reason) + ", vector " +
                      std::to_string(r.reply.exit.vector) + ", at RIP " + std::to_string(r.reply.state.rip));
    }
    paging_exits_ = {};
    for (u16 i = 0; i < static_cast<u16>(Reason::count_); ++i) {
        const auto kind = static_cast<Reason>(i);
        if (row_.paging && is_shadowed(mode_) && belongs_to_paging(kind)) {
            paging_exits_[i] = r.reply.counts[i];
            continue;
        }
        u64 expected = !until_repeats && kind == stop ? 1 : 0;
        const bool declared =
            kind != Reason::none && (kind == row_.reason || kind == row_.second || kind == row_.unseen);
        if (seen && declared) {
            expected += due;
        }
        if (r.reply.counts[i] != expected && !is_disturbance(kind)) {
            throw Invalid(times(r.reply.counts[i], kind) + " where " + times(expected, kind) + " were due");
        }
    }
    if (r.reply.host_changed != 0) {
        throw Invalid("host state changed, HostState bits " + std::to_string(r.reply.host_changed));
    }
}

std::vector<std::int64_t> durations(const std::vector<client::Sample>& samples, u64& disturbed) {
    std::vector<std::int64_t> out;
    out.reserve(samples.size());
    for (const auto& s : samples) {
        if (s.disturbed()) {
            ++disturbed;
        } else {
            out.push_back(static_cast<std::int64_t>(s.end - s.start));
        }
    }
    if (out.size() * 2 < samples.size()) {
        throw Invalid(std::to_string(samples.size() - out.size()) + " of " + std::to_string(samples.size()) +
                      " samples were disturbed");
    }
    return out;
}

} // namespace refhv::bench
