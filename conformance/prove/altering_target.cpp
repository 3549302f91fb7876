// SPDX-License-Identifier: MIT
#include "conformance/prove/altering_target.hpp"

#include "refhv/client/batch.hpp"

#include <algorithm>

namespace refhv::front {

namespace {

using abi::Outcome;

bool is_end_of_run(Outcome outcome) {
    return outcome == Outcome::exited || outcome == Outcome::entry_refused ||
           outcome == Outcome::repeats_done || outcome == Outcome::deadline;
}

template <class T>
void flip(T& value) {
    value = static_cast<T>(value ^ 1);
}

void alter_exit(abi::Exit& e, Part part) {
    switch (part) {
    case Part::reason:
        e.reason = static_cast<u16>(e.reason == 1 ? 2 : e.reason - 1);
        flip(e.raw_reason);
        break;
    case Part::qualification:
        flip(e.qualification);
        break;
    case Part::instruction:
        flip(e.instruction_length);
        flip(e.next_rip);
        e.info ^= 0x80;
        break;
    case Part::events:
        flip(e.interruption_info);
        flip(e.interruption_error);
        e.vectoring ^= 0x8000'0001;
        flip(e.vector);
        break;
    case Part::addresses:
        e.guest_physical ^= 0x1000;
        e.guest_linear ^= 0x1000;
        break;
    default:
        break;
    }
}

void alter_state(abi::GuestState& s, Part part) {
    switch (part) {
    case Part::rip:
        flip(s.rip);
        break;
    case Part::registers:
        for (u64& gpr : s.gpr) {
            flip(gpr);
        }
        break;
    case Part::flags:
        s.rflags ^= 0x1'0301; // RF, TF and IF, CF
        flip(s.interrupt_shadow);
        break;
    case Part::control:
        for (u64* const cr : {&s.cr0, &s.cr2, &s.cr3, &s.cr4, &s.cr8, &s.xcr0, &s.efer}) {
            *cr ^= 4;
        }
        break;
    case Part::debug:
        for (u64& dr : s.dr) {
            flip(dr);
        }
        flip(s.dr6);
        flip(s.dr7);
        break;
    case Part::segments:
        for (abi::Segment& segment : s.segment) {
            flip(segment.base);
            flip(segment.limit);
            flip(segment.rights);
            flip(segment.selector);
        }
        for (abi::TableRegister* const table : {&s.gdtr, &s.idtr}) {
            flip(table->base);
            flip(table->limit);
        }
        break;
    case Part::msrs:
        for (u64* const msr : {&s.star, &s.lstar, &s.cstar, &s.sfmask, &s.kernel_gs_base, &s.sysenter_cs,
                               &s.sysenter_esp, &s.sysenter_eip, &s.pat, &s.tsc_aux}) {
            flip(*msr);
        }
        break;
    default:
        break;
    }
}

void alter_run(abi::RunReply& r, Part part) {
    alter_exit(r.exit, part);
    alter_state(r.state, part);
    switch (part) {
    case Part::counts:
        for (u64& count : r.counts) {
            ++count;
        }
        ++r.entries;
        ++r.handled;
        break;
    case Part::refusal:
        r.refusal.instruction_error += 1;
        r.refusal.entry_failure += 1;
        r.refusal.qualification += 1;
        break;
    case Part::time:
        r.tsc_end = r.tsc_begin + 1'000'000'000'000;
        r.longest_stretch += 1'000'000'000'000;
        break;
    case Part::host:
        flip(r.host_changed);
        break;
    default:
        break;
    }
}

void alter_probe(abi::ProbeResult& r, Part part) {
    switch (part) {
    case Part::reason:
        r.reason = static_cast<u16>(r.reason == 1 ? 2 : r.reason - 1);
        flip(r.raw_reason);
        break;
    case Part::qualification:
        flip(r.qualification);
        break;
    case Part::refusal:
        r.refusal += 1;
        r.entry_failure += 1;
        break;
    case Part::host:
        flip(r.host_changed);
        break;
    case Part::outcome:
        r.outcome = static_cast<u16>(r.outcome == static_cast<u16>(Outcome::exited) ? Outcome::deadline
                                                                                    : Outcome::exited);
        break;
    default:
        break;
    }
}

class Alteration {
  public:
    explicit Alteration(Part part) : part_(part) {}

    [[nodiscard]] bool done() const { return done_; }
    // `outcome` stands in the reply's header, `body` behind it.
    void apply(abi::Op op, Outcome& outcome, std::span<u8> body) {
        if (op == abi::Op::run && is_end_of_run(outcome)) {
            run(outcome, body);
        } else if (outcome == Outcome::ok) {
            other(op, body);
        }
    }

  private:
    void run(Outcome& outcome, std::span<u8> body) {
        if (part_ == Part::outcome) {
            outcome = outcome == Outcome::exited ? Outcome::deadline : Outcome::exited;
            done_ = true;
            return;
        }
        if (body.size() < sizeof(abi::RunReply)) {
            return;
        }
        abi::RunReply reply;
        __builtin_memcpy(&reply, body.data(), sizeof reply);
        const abi::RunReply before = reply;
        alter_run(reply, part_);
        done_ = done_ || __builtin_memcmp(&before, &reply, sizeof reply) != 0;
        __builtin_memcpy(body.data(), &reply, sizeof reply);
        if (const auto lists = body.subspan(sizeof reply); part_ == Part::log && !lists.empty()) {
            for (u8& byte : lists) {
                byte ^= 1;
            }
            done_ = true;
        }
    }
    void probes(std::span<u8> body) {
        for (usize at = 0; at + sizeof(abi::ProbeResult) <= body.size(); at += sizeof(abi::ProbeResult)) {
            abi::ProbeResult result;
            __builtin_memcpy(&result, body.data() + at, sizeof result);
            const abi::ProbeResult before = result;
            alter_probe(result, part_);
            done_ = done_ || __builtin_memcmp(&before, &result, sizeof result) != 0;
            __builtin_memcpy(body.data() + at, &result, sizeof result);
        }
    }
    void other(abi::Op op, std::span<u8> body) {
        if (op == abi::Op::entry_probes) {
            probes(body);
            return;
        }
        const bool meant =
            (part_ == Part::memory && op == abi::Op::mem_read) ||
            (part_ == Part::fields && op == abi::Op::field_read) ||
            (part_ == Part::nested && (op == abi::Op::nested_entry || op == abi::Op::invalidate));
        if (!meant) {
            return;
        }
        // A field's error number, and an entry's level, stay: what is altered is a value.
        const usize end = op == abi::Op::mem_read ? body.size() : std::min<usize>(body.size(), 8);
        for (usize i = 0; i < end; i += op == abi::Op::mem_read ? 1 : 8) {
            flip(body[i]);
        }
        if (op == abi::Op::invalidate && body.size() >= sizeof(abi::InvalidateReply)) {
            flip(body[offsetof(abi::InvalidateReply, error)]);
        }
        done_ = done_ || !body.empty();
    }

    Part part_;
    bool done_ = false;
};

} // namespace

const char* name_of(Part part) {
    constexpr const char* names[] = {
        "rip",    "reason",  "qualification", "instruction", "events", "addresses", "registers",
        "flags",  "control", "debug",         "segments",    "msrs",   "counts",    "refusal",
        "memory", "fields",  "nested",        "log",         "time",   "host",      "outcome"};
    static_assert(std::size(names) == static_cast<usize>(Part::count_));
    return names[static_cast<usize>(part)];
}

std::vector<u8> AlteringTarget::call(std::span<const u8> payload, std::chrono::milliseconds patience) {
    auto bytes = subject_->call(payload, patience);
    if (!part_) {
        return bytes;
    }
    Alteration alteration(*part_);
    for (const client::Reply& reply : client::parse_replies(bytes)) {
        const auto at = static_cast<usize>(reply.body.data() - bytes.data());
        abi::ReplyHeader header;
        u8* const head = bytes.data() + at - sizeof header;
        __builtin_memcpy(&header, head, sizeof header);
        auto outcome = reply.outcome;
        alteration.apply(reply.op, outcome, {bytes.data() + at, reply.body.size()});
        header.outcome = static_cast<u16>(outcome);
        __builtin_memcpy(head, &header, sizeof header);
    }
    altered_ = altered_ || alteration.done();
    return bytes;
}

} // namespace refhv::front
