// SPDX-License-Identifier: MIT
// Two CPUs: what a peer does at the moments that a guest marks arrives there, once each.
#include "refhv/front/claim.hpp"
#include "refhv/front/guests/peer_guest.hpp"

#include <set>

namespace refhv::front {

using abi::Mode;
using abi::PeerAct;
using abi::Reason;

namespace {
constexpr u64 many = 10'000, some = 1'000;
} // namespace

class Peer : public Claim {
  protected:
    static bool alone() { return hello().fixed.cpus < 2; }

    static void expect_all(const PeerRun& what, const PeerResult& r) {
        EXPECT_EQ(r.run.outcome, abi::Outcome::exited) << r.run.text;
        EXPECT_EQ(static_cast<Reason>(r.run.reply.exit.reason),
                  what.mode == Mode::native ? Reason::int_n : Reason::io_out);
        EXPECT_EQ(r.run.reply.peer_acts, what.count) << "acts of the peer";
        EXPECT_EQ(r.taken, what.count) << "taken by the guest";
        EXPECT_EQ(r.run.reply.host_changed, 0u) << "HostState bits";
        EXPECT_EQ(r.run.exceptions.count, 0u);
        EXPECT_EQ(r.sent.size(), what.act == PeerAct::guest ? what.count : 0);
        // Between its mark and its seeing it, each act was taken once: none comes late, none twice.
        for (usize i = 0; i < r.rounds.size(); ++i) {
            const PeerRound& round = r.rounds[i];
            ASSERT_TRUE(what.act == PeerAct::write ||
                        (round.marked < round.taken && round.taken <= round.seen))
                << "round " << i;
        }
    }

    // On either CPU, in either mode.
    static void expect_each_once(PeerRun what, Reason exits) {
        for (const Mode mode : {Mode::native, Mode::nested}) {
            for (const u32 cpu : {0u, 1u}) {
                SCOPED_TRACE(std::string(client::name_of(mode)) + " on CPU " + std::to_string(cpu));
                what.mode = mode;
                what.cpu = cpu;
                what.peer_cpu = 1 - cpu;
                const PeerResult r = run_with_peer(host(), hello(), what);
                expect_all(what, r);
                if (mode != Mode::native && exits != Reason::none) {
                    EXPECT_EQ(r.run.count(exits), what.count) << "exits";
                }
            }
        }
        combinations(4 * what.count);
    }
};

#define NEEDS_TWO_CPUS                                                                                       \
    if (alone()) {                                                                                           \
        GTEST_SKIP() << "one CPU only";                                                                      \
    }

TEST_F(Peer, cpus_have_ids_of_their_own_and_tscs_that_were_compared) {
    claim({"SDM 3A 9.4, 18.17.1", "APM 2 16.3"}, [&] {
        NEEDS_TWO_CPUS
        ASSERT_EQ(hello().cpus.size(), hello().fixed.cpus);
        std::set<u32> ids;
        for (const abi::CpuInfo& cpu : hello().cpus) {
            ids.insert(cpu.apic_id);
            EXPECT_LT(cpu.tsc_error, u64{1} << 30) << "no exchange of stamps ended";
        }
        EXPECT_EQ(ids.size(), hello().cpus.size());
    });
}

TEST_F(Peer, guests_run_on_every_cpu_with_any_other_as_peer) {
    claim({"SDM 3A 9.4, 3C 25.11.1", "APM 2 15.30.4, 16.5"}, [&] {
        NEEDS_TWO_CPUS
        constexpr u64 rounds = 5;
        const u32 cpus = hello().fixed.cpus;
        for (u32 run = 0; run < cpus * cpus; ++run) {
            const PeerRun what{.count = rounds, .cpu = run / cpus, .peer_cpu = run % cpus};
            if (what.cpu != what.peer_cpu) {
                SCOPED_TRACE("CPU " + std::to_string(what.cpu) + ", peer " + std::to_string(what.peer_cpu));
                expect_all(what, run_with_peer(host(), hello(), what));
            }
        }
        combinations(u64{cpus} * (cpus - 1));
    });
}

TEST_F(Peer, interrupts_arrive_once_each) {
    claim({"SDM 3A 11.6.1, 3C 26.2", "APM 2 15.21.1, 16.5"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::interrupt, .count = many}, Reason::external_interrupt);
    });
}

// The exit does not wait for the guest's IF, the delivery does: for the window behind STI.
TEST_F(Peer, masked_interrupts_exit_at_once_and_arrive_with_the_window) {
    claim({"SDM 3C 26.2", "APM 2 15.21.1, 15.21.4"}, [&] {
        NEEDS_TWO_CPUS
        constexpr u64 rounds = 20;
        for (const u32 cpu : {0u, 1u}) {
            const PeerRun what{.wait = Wait::masked, .count = rounds, .cpu = cpu, .peer_cpu = 1 - cpu};
            const PeerResult r = run_with_peer(host(), hello(), what);
            expect_all(what, r);
            EXPECT_EQ(r.run.count(Reason::external_interrupt), rounds);
            EXPECT_EQ(r.run.count(Reason::interrupt_window), rounds);
        }
        combinations(2 * rounds);
    });
}

// An interrupt left pending at a guest's APIC is dropped when its run ends.
TEST_F(Peer, interrupts_left_pending_are_not_the_next_runs) {
    claim({"refhv contract, Run", "refhv contract, Run"}, [&] {
        NEEDS_TWO_CPUS
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE("CPU " + std::to_string(cpu));
            const PeerResult left = run_with_peer(
                host(), hello(),
                {.mode = Mode::native, .wait = Wait::never, .count = 1, .cpu = cpu, .peer_cpu = 1 - cpu});
            EXPECT_EQ(left.run.reply.peer_acts, 1u);
            EXPECT_EQ(left.taken, 0u);
            const PeerRun next{.wait = Wait::masked, .count = 1, .cpu = cpu, .peer_cpu = 1 - cpu};
            const PeerResult r = run_with_peer(host(), hello(), next);
            expect_all(next, r);
            EXPECT_EQ(r.run.count(Reason::external_interrupt), 1u);
        }
        combinations(2);
    });
}

TEST_F(Peer, interrupts_wake_a_halted_guest_once_each) {
    claim({"SDM 3A 11.6.1, 3C 26.2", "APM 2 15.21.1, 16.5"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::interrupt, .wait = Wait::hlt, .count = some},
                         Reason::external_interrupt);
    });
}

TEST_F(Peer, interrupts_end_an_intercepted_hlt) {
    claim({"SDM 3C 26.1.3, 27.7", "APM 2 15.9, 15.20"}, [&] {
        NEEDS_TWO_CPUS
        for (const u32 cpu : {0u, 1u}) {
            const PeerRun what{
                .wait = Wait::hlt, .hlt_exits = true, .count = some, .cpu = cpu, .peer_cpu = 1 - cpu};
            const PeerResult r = run_with_peer(host(), hello(), what);
            expect_all(what, r);
            EXPECT_GE(r.run.count(Reason::hlt) + r.run.count(Reason::external_interrupt), some);
        }
        combinations(2 * some);
    });
}

TEST_F(Peer, nmis_arrive_once_each) {
    claim({"SDM 3A 11.6.1, 3C 26.2", "APM 2 15.13, 16.5"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::nmi, .count = some}, Reason::nmi);
    });
}

// In mode nested VMX's virtual NMIs and the NMI window hold it back, on SVM an intercepted IRET, which the
// core steps over if another NMI has come by then. That is not said of the CPU: Bochs holds it back itself.
TEST_F(Peer, nmi_waits_for_the_iret_of_the_one_before) {
    claim({"SDM 3A 6.7.1, 3C 25.6.1, 26.2", "APM 2 8.2.3, 15.20"}, [&] {
        NEEDS_TWO_CPUS
        constexpr u64 rounds = 20;
        for (const Mode mode : {Mode::native, Mode::nested, Mode::shadow}) {
            SCOPED_TRACE(client::name_of(mode));
            const PeerResult r =
                run_with_peer(host(), hello(),
                              {.mode = mode, .act = PeerAct::nmi, .count = rounds, .mark_in_handler = true});
            EXPECT_EQ(r.run.outcome, abi::Outcome::exited) << r.run.text;
            EXPECT_EQ(r.run.reply.peer_acts, rounds);
            EXPECT_EQ(r.taken, rounds);
            EXPECT_EQ(r.deepest, 1u) << "handlers within each other";
            EXPECT_EQ(r.run.exceptions.count, 0u);
            if (mode == Mode::nested) {
                EXPECT_EQ(r.run.count(Reason::nmi), rounds);
                EXPECT_EQ(r.run.count(on_vmx() ? Reason::nmi_window : Reason::iret),
                          on_vmx() ? rounds - 1 : rounds);
                EXPECT_LE(r.run.count(Reason::exception), on_vmx() ? 0 : rounds - 1);
            }
        }
        combinations(3 * rounds);
    });
}

TEST_F(Peer, stores_are_seen_in_order) {
    claim({"SDM 3A 9.2.3.2", "APM 2 7.2"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::write, .count = some}, Reason::none);
    });
}

TEST_F(Peer, stores_end_mwait) {
    claim({"SDM 2 MWAIT", "APM 3 MWAIT"}, [&] {
        NEEDS_TWO_CPUS
        constexpr u32 monitor = 1u << 3; // CPUID.1:ECX
        if ((cpuid(hello(), 1, 0, 2) & monitor) == 0) {
            GTEST_SKIP() << "no MONITOR and MWAIT (CPUID.1:ECX[3])";
        }
        expect_each_once({.act = PeerAct::write, .wait = Wait::mwait, .count = some}, Reason::none);
    });
}

TEST_F(Peer, posted_interrupts_arrive_once_each) {
    claim({"SDM 3C 30.6", "refhv contract, PeerAct::post"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::post, .count = many}, Reason::external_interrupt);
    });
}

// The core emulates the sender's ICR: its WRMSR exits, and the interrupt goes out and comes in for real.
TEST_F(Peer, guests_send_interrupts_to_guests_once_each) {
    claim({"SDM 3A 11.12.9, 3C 26.1.3, 26.2", "APM 2 15.11, 15.21.1, 16.13"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::guest, .count = some}, Reason::external_interrupt);
    });
}

TEST_F(Peer, guests_have_interrupts_posted_to_guests_once_each) {
    claim({"SDM 3A 11.12.9, 3C 30.6", "APM 2 15.11, 16.13"}, [&] {
        NEEDS_TWO_CPUS
        expect_each_once({.act = PeerAct::guest, .count = some, .posted = true}, Reason::external_interrupt);
    });
}

TEST_F(Peer, guest_that_names_another_apic_sends_nothing) {
    claim({"SDM 3A 11.12.9", "APM 2 16.13"}, [&] {
        NEEDS_TWO_CPUS
        const PeerResult r = run_with_peer(
            host(), hello(), {.act = PeerAct::guest, .count = 1, .deadline = 2'000'000, .elsewhere = 1});
        EXPECT_EQ(r.run.outcome, abi::Outcome::deadline) << r.run.text;
        EXPECT_EQ(r.run.reply.peer_acts, 0u);
        EXPECT_EQ(r.taken, 0u);
        EXPECT_NE(r.sent.at(0), 0u) << "the sender came to its WRMSR";
    });
}

TEST_F(Peer, post_with_sn_set_sends_no_notification) {
    claim({"SDM 3C 30.6", "refhv contract, PeerAct::post"}, [&] {
        NEEDS_TWO_CPUS
        // The guest waits in vain, and its deadline ends it.
        const PeerRun what{.act = PeerAct::post, .count = 1, .deadline = 2'000'000, .suppress = true};
        const PeerResult r = run_with_peer(host(), hello(), what);
        EXPECT_EQ(r.run.outcome, abi::Outcome::deadline) << r.run.text;
        EXPECT_EQ(r.run.reply.peer_acts, 1u);
        EXPECT_EQ(r.taken, 0u);
        EXPECT_EQ(r.run.count(Reason::external_interrupt), r.run.reply.interrupts) << "the deadline's alone";
        EXPECT_EQ(r.posted[peer_vector / 64], u64{1} << (peer_vector % 64));
        EXPECT_EQ(r.control, 2u) << "SN as it was, ON not set";
    });
}

} // namespace refhv::front
