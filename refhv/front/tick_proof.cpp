// SPDX-License-Identifier: MIT
#include "refhv/front/tick_proof.hpp"

#include <algorithm>
#include <cstdlib>

namespace refhv::front {

using abi::Mode;
using abi::Reason;
using Kind = CountedPair::Kind;

namespace {

// The first round pays for what happens once, the second is looked at.
constexpr u64 rounds = 2;
constexpr unsigned attempts = 3;

std::string in_words(const CountedPair& pair, bool exits) {
    return std::to_string(pair.count) + " " + pair.what +
           (exits && pair.kind == Kind::cpuid ? " with their exits" : "");
}

client::Plan plan_of(Mode mode) {
    client::Plan plan;
    plan.mode = mode;
    plan.sample_pages = client::layout::sample_pages;
    if (mode != Mode::native) {
        plan.intercepts = client::on(abi::Intercept::cpuid);
        plan.policy.push_back({.reason = static_cast<u16>(Reason::cpuid),
                               .action = static_cast<u8>(abi::Action::advance),
                               .length = 2,
                               .event = 0});
    }
    return plan;
}

// What to look at first.
std::string hint(const client::TargetInfo& info) {
    return info.emulator.name == "bochs"  ? "; Bochs 3.0 needs -debugger"
           : info.emulator.name == "qemu" ? "; QEMU needs -icount"
                                          : "";
}

// Why the run says nothing about ticks; empty: it does.
std::string fault_of(const client::RunResult& run, bool exits) {
    u64 cpuids = 0;
    for (const CountedPair& pair : counted_pairs()) {
        cpuids += pair.kind == Kind::cpuid ? pair.count : 0;
    }
    if (run.outcome != abi::Outcome::exited || run.exceptions.count != 0) {
        return std::string("the counted guest ended by ") + client::name_of(run.outcome) + " after " +
               std::to_string(run.exceptions.count) + " exceptions";
    }
    const u64 due = exits ? rounds * cpuids : 0;
    if (run.count(Reason::cpuid) != due) {
        return std::to_string(run.count(Reason::cpuid)) + " exits by CPUID where " + std::to_string(due) +
               " were due";
    }
    if (run.reply.interrupts + run.reply.nmis != 0) {
        return "interrupts fell into " + std::to_string(attempts) + " counted runs in a row";
    }
    return {};
}

client::RunResult undisturbed_run(client::Guest& guest, u32 cpu) {
    for (unsigned attempt = 1;; ++attempt) {
        guest.load(counted_guest());
        auto run = guest.run({.rounds = rounds, .samples = rounds * counted_pairs().size(), .cpu = cpu});
        if (run.reply.interrupts + run.reply.nmis == 0 || attempt == attempts) {
            return run;
        }
    }
}

} // namespace

std::optional<u64> instructions_of_exit(const client::HelloInfo& hello, Mode mode) {
    if (mode == Mode::native) {
        return std::nullopt;
    }
    return static_cast<abi::Vendor>(hello.fixed.vendor) == abi::Vendor::svm ? instructions_of_exit_svm
                                                                            : instructions_of_exit_vmx;
}

u64 due_ticks(const CountedPair& pair, const client::TickRules& rules, std::optional<u64> exit) {
    switch (pair.kind) {
    case Kind::plain:
        break;
    case Kind::cpuid:
        return pair.others + pair.count * (exit ? *exit + (rules.exiting_counts ? 1 : 0) : 1);
    case Kind::string: // an iteration each, and one where there is none
        return pair.others + (rules.string_end_counts ? pair.count + 1 : std::max(pair.count, 1u));
    }
    return pair.others + pair.count;
}

std::string judge_ticks(std::span<const client::Sample> samples, const client::TickRules& rules,
                        std::optional<u64> exit) {
    const auto pairs = counted_pairs();
    std::string worst;
    i64 worst_error = 0;
    usize off = 0;
    for (usize i = 0; i < pairs.size(); ++i) {
        const auto due = static_cast<i64>(due_ticks(pairs[i], rules, exit) + instructions_of_a_pair);
        const auto taken = static_cast<i64>(samples[i].end - samples[i].start);
        const i64 step = rules.step;
        if (taken % step == 0 && taken > due - step && taken < due + step) {
            continue;
        }
        ++off;
        const i64 error = std::abs(taken - due);
        if (worst.empty() || error > worst_error) {
            const i64 rest = instructions_of_a_pair + pairs[i].others; // beside what is named
            worst = in_words(pairs[i], exit.has_value()) + " took " + std::to_string(taken - rest) +
                    " ticks, not " + std::to_string(due - rest);
            worst_error = error;
        }
    }
    return off == 0 ? ""
                    : worst + " (" + std::to_string(off) + " of " + std::to_string(pairs.size()) +
                          " counted pairs are off)";
}

TickProof prove_ticks(client::GuestHost& host, const client::HelloInfo& hello, Mode mode, u32 cpu) {
    const auto exit = instructions_of_exit(hello, mode);
    const auto pairs = counted_pairs().size();
    TickProof proof{.pairs = pairs, .wrong = {}};
    try {
        client::Guest guest(host, plan_of(mode));
        const auto run = undisturbed_run(guest, cpu);
        proof.wrong = fault_of(run, exit.has_value());
        if (proof.wrong.empty()) {
            proof.wrong =
                judge_ticks(std::span(run.samples).last(pairs), host.target.info().tick_rules, exit);
        }
    } catch (const client::Refused& refused) {
        if (refused.outcome != abi::Outcome::unsupported && refused.outcome != abi::Outcome::exhausted) {
            throw; // an error of ours
        }
        // What is not shown does not hold.
        proof.wrong = std::string("the counted guest was refused: ") + refused.what();
    }
    if (!proof.wrong.empty()) {
        proof.wrong += std::string(", in mode ") + client::name_of(mode) +
                       (cpu == 0 ? "" : " on CPU " + std::to_string(cpu)) + hint(host.target.info());
    }
    return proof;
}

bool counts_instructions(client::GuestHost& host, const client::HelloInfo& hello) {
    constexpr client::TickRules rules_of_emulators[] = {
        {.step = 1}, {.step = 5}, {.exiting_counts = false, .string_end_counts = true}};
    for (const Mode mode : {Mode::native, Mode::nested}) {
        if ((hello.fixed.modes >> static_cast<unsigned>(mode) & 1) == 0) {
            continue;
        }
        const auto exit = instructions_of_exit(hello, mode);
        try {
            client::Guest guest(host, plan_of(mode));
            const auto run = undisturbed_run(guest, 0);
            return fault_of(run, exit.has_value()).empty() &&
                   std::ranges::any_of(rules_of_emulators, [&](const client::TickRules& rules) {
                       return judge_ticks(std::span(run.samples).last(counted_pairs().size()), rules, exit)
                           .empty();
                   });
        } catch (const client::Refused&) {
            continue; // such as a platform that does not permit the mode
        }
    }
    return false;
}

TickProof prove_ticks(client::GuestHost& host, const client::HelloInfo& hello) {
    TickProof all;
    const auto prove = [&](Mode mode, u32 cpu) {
        const TickProof one = prove_ticks(host, hello, mode, cpu);
        all.pairs += one.pairs;
        all.wrong = all.wrong.empty() ? one.wrong : all.wrong;
    };
    std::optional<Mode> some;
    for (const Mode mode : {Mode::native, Mode::nested, Mode::shadow, Mode::vtlb}) {
        if ((hello.fixed.modes >> static_cast<unsigned>(mode) & 1) != 0 && all.wrong.empty()) {
            prove(mode, 0);
            some = mode;
        }
    }
    for (u32 cpu = 1; some && cpu < hello.fixed.cpus && all.wrong.empty(); ++cpu) {
        prove(*some, cpu);
    }
    return all;
}

} // namespace refhv::front
