// SPDX-License-Identifier: MIT
#include "conformance/test/front/fake_target.hpp"

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/tick_proof.hpp"

#include <algorithm>
#include <utility>

namespace refhv::test {

using abi::Op;
using abi::Outcome;
using abi::Reason;
namespace layout = client::layout;

namespace {

template <class T>
void append(std::vector<u8>& out, const T& what) {
    const auto* p = reinterpret_cast<const u8*>(&what);
    out.insert(out.end(), p, p + sizeof what);
}

template <class T>
T read(std::span<const u8> body) {
    T out{};
    std::copy_n(body.begin(), std::min(body.size(), sizeof out), reinterpret_cast<u8*>(&out));
    return out;
}

} // namespace

FakeTarget::FakeTarget() : info_{"fake", "image", "vmx", true, "ticks", "a core made of C++"} {
    auto& h = greeting.fixed;
    h.version = abi::version;
    h.vendor = static_cast<u16>(abi::Vendor::vmx);
    h.cpus = 1;
    for (const abi::Mode mode : {abi::Mode::nested, abi::Mode::native, abi::Mode::shadow, abi::Mode::vtlb}) {
        h.modes |= u64{1} << static_cast<unsigned>(mode);
    }
    greeting.cpuid = {{0, 0, 0x16, 0x756e'6547, 0x6c65'746e, 0x4965'6e69}, // GenuineIntel
                      {1, 0, 0x0005'0654, 0, 1u << 3 | 1u << 26, 0}};      // 06-55-4 with MONITOR and XSAVE
}

const client::HelloInfo& FakeTarget::hello() {
    if (behaviour.dies) {
        throw client::TargetMiss("fake: gone");
    }
    return greeting;
}

u8 FakeTarget::byte(u64 gpa) const {
    const auto it = memory_.find(gpa);
    return it == memory_.end() ? 0 : it->second;
}

u64 FakeTarget::quad(u64 gpa) const {
    u64 out = 0;
    for (u64 i = 0; i < 8; ++i) {
        out |= u64{byte(gpa + i)} << (8 * i);
    }
    return out;
}

void FakeTarget::write(u64 gpa, std::span<const u8> bytes) {
    for (u64 i = 0; i < bytes.size(); ++i) {
        memory_[gpa + i] = bytes[i];
    }
}

std::vector<u8> FakeTarget::call(std::span<const u8> payload, std::chrono::milliseconds /*patience*/) {
    if (behaviour.dies) {
        ++generation_;
        throw client::TargetMiss("fake: gone");
    }
    std::vector<u8> out;
    bool skipping = false;
    for (usize at = 0; at + sizeof(abi::OpHeader) <= payload.size();) {
        const auto header = read<abi::OpHeader>(payload.subspan(at));
        const auto body = payload.subspan(at + sizeof header, header.size);
        const auto op = static_cast<Op>(header.op);
        requests.push_back({op, {body.begin(), body.end()}});
        std::vector<u8> reply;
        const Outcome outcome = skipping ? Outcome::skipped : answer(op, body, reply);
        skipping = skipping || (outcome != Outcome::ok && outcome != Outcome::exited &&
                                outcome != Outcome::repeats_done && outcome != Outcome::deadline);
        append(out, abi::ReplyHeader{header.op, static_cast<u16>(outcome), static_cast<u32>(reply.size())});
        out.insert(out.end(), reply.begin(), reply.end());
        out.resize(abi::align8(out.size()));
        at += sizeof header + abi::align8(header.size);
    }
    return out;
}

Outcome FakeTarget::answer(Op op, std::span<const u8> body, std::vector<u8>& out) {
    switch (op) {
    case Op::vm_create:
        if (behaviour.create != Outcome::ok) {
            append(out, abi::Text{"no such thing here"});
            return behaviour.create;
        }
        if (vm_) {
            return Outcome::bad_request;
        }
        vm_ = true;
        mode_ = static_cast<abi::Mode>(read<abi::VmCreate>(body).mode);
        memory_.clear();
        append(out, abi::VmCreateReply{0});
        return Outcome::ok;
    case Op::vm_destroy:
        return std::exchange(vm_, false) ? Outcome::ok : Outcome::bad_request;
    case Op::mem_write:
        write(read<abi::MemRange>(body).gpa, body.subspan(sizeof(abi::MemRange)));
        return Outcome::ok;
    case Op::mem_fill64: {
        const auto f = read<abi::MemFill64>(body);
        for (u64 i = 0; i < f.count; ++i) {
            const u64 value = f.start + i * f.step;
            write(f.gpa + 8 * i, {reinterpret_cast<const u8*>(&value), 8});
        }
        return Outcome::ok;
    }
    case Op::mem_read: {
        const auto r = read<abi::MemRange>(body);
        for (u64 i = 0; i < r.size; ++i) {
            out.push_back(byte(r.gpa + i));
        }
        return Outcome::ok;
    }
    case Op::state_set:
        state_ = read<abi::StateSet>(body).state;
        return Outcome::ok;
    case Op::intercept:
        intercepts_ = read<abi::InterceptSet>(body).set;
        append(out, abi::InterceptReply{intercepts_ & behaviour.unsupported, 0});
        return Outcome::ok;
    case Op::invalidate:
        append(out, abi::InvalidateReply{.tsc_begin = clock_,
                                         .tsc_end = clock_ + 4 + 3 * read<abi::Invalidate>(body).repeats,
                                         .error = behaviour.instruction_error,
                                         .zero = 0});
        return Outcome::ok;
    case Op::run:
        return run(read<abi::Run>(body), out);
    default:
        return Outcome::ok;
    }
}

// A control program has nothing between its two stamps but the setup: the loop of this test's row is known by
// length.
bool FakeTarget::control_loaded() const {
    // The operation of the rows used here is two bytes, CPUID: 0F A2.
    for (u64 at = layout::code; at < layout::code + 160; ++at) {
        if (byte(at) == 0x0f && byte(at + 1) == 0xa2) {
            return false;
        }
    }
    return true;
}

// A guest that spins until the preemption timer, of 32 ticks a unit, ends its entry: `repeats` times.
Outcome FakeTarget::fire(const abi::Run& what, std::vector<u8>& out) {
    constexpr u64 unit = 32, entry_and_exit = 40, host = 9;
    const u64 runs_for =
        entry_and_exit +
        (what.preemption_timer == 0 ? 0 : what.preemption_timer * unit + behaviour.timer_late);
    abi::RunReply reply{};
    reply.exit.reason = static_cast<u16>(Reason::preemption_timer);
    reply.counts[static_cast<usize>(Reason::preemption_timer)] = what.repeats;
    reply.stamp_count = static_cast<u32>(what.repeats);
    append(out, reply);
    for (u64 i = 0; i < what.repeats; ++i) {
        clock_ += runs_for;
        append(out, abi::HostStamp{.first = clock_, .last = clock_ + host});
        clock_ += host;
    }
    return Outcome::repeats_done;
}

bool FakeTarget::counted_loaded() const {
    const auto bytes = front::counted_guest().bytes();
    return std::equal(bytes.begin(), bytes.end(), memory_.lower_bound(layout::code),
                      [](u8 due, const auto& there) { return due == there.second; });
}

// The guest that the proof of ticks counts with, by a clock that may be coarser than an instruction.
Outcome FakeTarget::run_counted(u64 rounds, std::vector<u8>& out) {
    ++counted_runs;
    requests.clear();
    const bool exits = mode_ != abi::Mode::native;
    const auto exit = front::instructions_of_exit(greeting, mode_);
    const auto now = [&] { return clock_ / behaviour.coarse * behaviour.coarse; };
    abi::RunReply reply{};
    reply.exit.reason = static_cast<u16>(exits ? Reason::hlt : Reason::int_n);
    u64 at = layout::samples;
    for (u64 round = 0; round < rounds; ++round) {
        for (const front::CountedPair& pair : front::counted_pairs()) {
            const bool cpuid = pair.kind == front::CountedPair::Kind::cpuid;
            clock_ += 12; // between the pairs
            client::Sample s{.start = now(), .end = 0, .es = 1};
            clock_ += front::instructions_of_a_pair +
                      (cpuid && behaviour.free_cpuid ? 0 : front::due_ticks(pair, info_.tick_rules, exit));
            s.end = now();
            write(at, {reinterpret_cast<const u8*>(&s), sizeof s});
            at += sizeof s;
            reply.counts[static_cast<usize>(Reason::cpuid)] += cpuid && exits ? pair.count : 0;
        }
    }
    reply.counts[static_cast<usize>(Reason::cpuid)] -= exits ? behaviour.lost_cpuids : 0;
    append(out, reply);
    return behaviour.counted;
}

Outcome FakeTarget::run(const abi::Run& what, std::vector<u8>& out) {
    if (counted_loaded()) {
        return run_counted(quad(layout::parameter), out);
    }
    ++runs;
    if ((intercepts_ >> static_cast<u8>(abi::Intercept::preemption_timer) & 1) != 0 && what.repeats != 0) {
        return fire(what, out);
    }
    const bool exits = !control_loaded();
    const bool stamped = (what.flags & abi::run_host_stamps) != 0;
    const u64 rounds = quad(layout::parameter);
    std::vector<abi::HostStamp> stamps;
    abi::RunReply reply{};
    reply.tsc_begin = clock_;
    for (u64 i = 0; i < rounds; ++i) {
        clock_ += 10 + (exits ? behaviour.drift : 0);
        client::Sample s{.start = clock_, .end = 0, .es = i < behaviour.disturbed ? u64{0} : u64{1}};
        clock_ += behaviour.pair;
        if (exits) {
            const u64 first = s.start + 8;
            clock_ += behaviour.operation + (stamped ? behaviour.host_stamp : 0);
            if (stamped && behaviour.second != Reason::none) {
                stamps.push_back({first, first + 1});
                stamps.push_back({first + 1 + behaviour.between, clock_ - 4});
            } else if (stamped) {
                stamps.push_back({first, clock_ - 4});
            }
        }
        s.end = clock_;
        write(layout::samples + i * sizeof s, {reinterpret_cast<const u8*>(&s), sizeof s});
    }
    reply.tsc_end = clock_;
    reply.exit.reason = static_cast<u16>(Reason::hlt);
    reply.counts[static_cast<usize>(Reason::hlt)] = 1;
    if (exits && behaviour.second != Reason::none) {
        reply.counts[static_cast<usize>(behaviour.second)] = rounds;
    }
    if (exits && behaviour.unseen != Reason::none) {
        reply.counts[static_cast<usize>(behaviour.unseen)] = rounds;
    }
    if (exits) {
        reply.counts[static_cast<usize>(behaviour.reason)] += static_cast<u64>(
            static_cast<i64>(rounds) + behaviour.extra_exits - (runs == behaviour.lossy_run ? 1 : 0));
    }
    reply.state = state_;
    reply.state.rip = layout::stop;
    reply.host_changed = behaviour.host_changed;
    reply.entries = behaviour.entries;
    reply.stamp_count = static_cast<u32>(stamps.size());
    if (behaviour.interrupted_runs != 0) {
        --behaviour.interrupted_runs;
        reply.interrupts = 1;
        reply.counts[static_cast<usize>(Reason::external_interrupt)] = 1;
    }
    write(layout::record, {reinterpret_cast<const u8*>(&behaviour.exceptions), 8});
    append(out, reply);
    for (const auto& s : stamps) {
        append(out, s);
    }
    return Outcome::exited;
}

} // namespace refhv::test
