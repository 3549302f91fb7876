// SPDX-License-Identifier: MIT
// Two CPUs: from a sender's store to the first instruction of the receiver's handler (`ipi.…`), and from the
// store that wakes a sleeper to its next instruction (`wake.…`). The sender is the core on another CPU, or in
// `ipi.icr_trapped` a guest of its own; the receiver is a guest, in mode native without anything between.
// Both ends are read on their own TSC, and the offset that was measured between them is taken off: each
// number is right to within the error that the record gives with it.
#include "microbench/measure/measurement.hpp"
#include "refhv/front/guests/peer_guest.hpp"

#include <algorithm>

namespace refhv::bench {

using abi::Mode;
using abi::PeerAct;
using abi::Reason;
using front::PeerRun;
using front::Wait;

namespace {

constexpr u64 most_rounds = 10'000;
// Between the mark and the act: by then a sleeper sleeps.
constexpr u64 asleep = 20'000; // TSC ticks

std::string one_cpu_only(const client::HelloInfo& hello) {
    return hello.fixed.cpus < 2 ? "a sender needs a second CPU; this target has one" : "";
}

std::string no_mwait(const client::HelloInfo& hello) {
    constexpr u32 monitor = 1u << 3;
    const std::string lonely = one_cpu_only(hello);
    return !lonely.empty()                                 ? lonely
           : (front::cpuid(hello, 1, 0, 2) & monitor) == 0 ? "no MONITOR and MWAIT (CPUID.1:ECX[3])"
                                                           : "";
}

// Everything was done once, and the guest exited for that and for nothing else.
void expect_all(const front::PeerResult& r, const PeerRun& what, Reason exits, bool svm, Measurement& m) {
    const abi::RunReply& reply = r.run.reply;
    if (r.run.outcome != abi::Outcome::exited || reply.peer_acts != what.count || r.taken != what.count) {
        throw Invalid(std::to_string(what.count) + " asked for, " + std::to_string(reply.peer_acts) +
                      " sent, " + std::to_string(r.taken) + " taken; " + client::name_of(r.run.outcome));
    }
    if (reply.host_changed != 0) {
        throw Invalid("host state changed, HostState bits " + std::to_string(reply.host_changed));
    }
    if (what.mode != Mode::nested) {
        return;
    }
    // On SVM the end of an NMI's handler is an exit too: its IRET is intercepted.
    const bool by_iret = exits == Reason::nmi && svm;
    const u64 expected = exits == Reason::none ? 0 : by_iret ? 2 * what.count : what.count;
    u64 counted = 0;
    for (const u64 n : reply.counts) {
        counted += n;
    }
    counted -= 1 + reply.interrupts; // the end of the run; the host's own
    m.exits = ExitCount{exits == Reason::none ? ""
                        : by_iret             ? "nmi + iret"
                                              : client::name_of(exits),
                        expected, counted};
    if (counted != expected) {
        throw Invalid(std::to_string(counted) + " exits where " + std::to_string(expected) + " were due");
    }
}

void run(PeerRun what, Reason exits, Measurement& m) {
    auto& session = front::Session::get();
    const client::HelloInfo& hello = session.hello();
    what.count = std::min(m.n, most_rounds);
    m.n = what.count;
    const front::PeerResult r = front::run_with_peer(session.host(), hello, what);
    expect_all(r, what, exits, session.vendor() == abi::Vendor::svm, m);
    const abi::CpuInfo& sender = hello.cpus.at(what.peer_cpu);
    const std::int64_t offset = sender.tsc_offset - hello.cpus.at(what.cpu).tsc_offset;
    for (usize i = 0; i < r.rounds.size(); ++i) {
        const u64 arrived = what.act == PeerAct::write ? r.rounds[i].seen : r.rounds[i].taken;
        const u64 sent = what.act == PeerAct::guest ? r.sent.at(i) : r.run.peer.at(i).before;
        m.samples.push_back(static_cast<std::int64_t>(arrived - sent) + offset);
    }
    m.stamp_cost = 0; // nothing is taken off
    m.reason = "between the TSCs of two CPUs, right to " + std::to_string(sender.tsc_error) +
               " ticks of them: nothing to split, no slope";
    summarize_net(m);
}

Row peer_row(const char* name, const PeerRun& what, std::vector<Mode> modes, const char* claim,
             Reason exits = Reason::external_interrupt) {
    Row row{.name = name, .missing = what.wait == Wait::mwait ? no_mwait : one_cpu_only};
    row.rests_on = {claim, "Peer.cpus_have_ids_of_their_own_and_tscs_that_were_compared"};
    row.modes = std::move(modes);
    row.by_itself = [what, exits](Mode mode, u64, Measurement& m) {
        PeerRun here = what;
        here.mode = mode;
        run(here, exits, m);
    };
    return row;
}

const std::vector<Mode> both{Mode::nested, Mode::native}, guests{Mode::nested};

const Declare interrupt{
    peer_row("ipi.interrupt", {.act = PeerAct::interrupt}, both, "Peer.interrupts_arrive_once_each")};
// The sender's WRMSR of its ICR exits, and the core sends for it.
const Declare icr_trapped{peer_row("ipi.icr_trapped", {.act = PeerAct::guest}, guests,
                                   "Peer.guests_send_interrupts_to_guests_once_each")};
const Declare nmi{
    peer_row("ipi.nmi", {.act = PeerAct::nmi}, both, "Peer.nmis_arrive_once_each", Reason::nmi)};
// The receiver's own software takes the requests; the CPU's posted-interrupt processing is another matter.
const Declare post{peer_row("ipi.posted_to_software", {.act = PeerAct::post}, both,
                            "Peer.posted_interrupts_arrive_once_each")};
// For scale: a store, seen by a CPU that looks for it.
const Declare store{
    peer_row("ipi.store", {.act = PeerAct::write}, both, "Peer.stores_are_seen_in_order", Reason::none)};

const Declare halted{peer_row("wake.hlt", {.act = PeerAct::interrupt, .wait = Wait::hlt, .delay = asleep},
                              both, "Peer.interrupts_wake_a_halted_guest_once_each")};
// The interrupt ends the core's sleep, so it makes no exit of its own.
const Declare intercepted{
    peer_row("wake.hlt_intercepted",
             {.act = PeerAct::interrupt, .wait = Wait::hlt, .hlt_exits = true, .delay = asleep}, guests,
             "Peer.interrupts_end_an_intercepted_hlt", Reason::hlt)};
const Declare monitored{peer_row("wake.mwait", {.act = PeerAct::write, .wait = Wait::mwait, .delay = asleep},
                                 both, "Peer.stores_end_mwait", Reason::none)};

} // namespace

} // namespace refhv::bench
