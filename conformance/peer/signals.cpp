// SPDX-License-Identifier: MIT
// VMX: INIT, start-up IPIs, NMIs and interrupts that a peer sends to a CPU in each activity state (SDM 3C
// 26.2, 27.7.2). A wrong subject may reset the CPU that an INIT reaches, which ends the target: the claim is
// then a MISS by its name.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::PeerAct;
using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

#define ROUNDS "50"
#define MARK "0x40012800"
// RBX counts; each round leaves the peer some thousand instructions.
#define BEGIN_ROUND "xor %ebx, %ebx\n 1: inc %rbx\n mov %rbx, " MARK "\n"
#define END_ROUND "cmp $" ROUNDS ", %ebx\n jb 1b"
GUEST(guest_marks_and_waits, BEGIN_ROUND "mov $3000, %ecx\n 2: pause\n dec %ecx\n jnz 2b\n" END_ROUND)
// Most of the time in root operation.
GUEST(guest_marks_and_exits,
      BEGIN_ROUND "mov $150, %esi\n 2: xor %eax, %eax\n mov %rbx, %r15\n cpuid\n mov %r15, %rbx\n dec %esi\n"
                  "jnz 2b\n" END_ROUND)
GUEST(guest_sleeping_nops, "nop\n nop")

constexpr u64 rounds = 50, mark = REFHV_SCRATCH;
constexpr u32 vmx_misc = 0x485;
constexpr u64 hlt = 1, shutdown = 2, wait_for_sipi = 3;
constexpr u64 entered = 50'000; // TSC ticks: a run has entered its guest by then
constexpr u8 page = 0x9a, vector = 0x51;

} // namespace

class PeerSignals : public Intr {
  protected:
    static std::string missing(u64 state = 0) {
        if (hello().fixed.cpus < 2) {
            return "one CPU only";
        }
        if (state != 0 && (msr(hello(), vmx_misc) >> (5 + state) & 1) == 0) {
            return "no such activity state: IA32_VMX_MISC[" + std::to_string(5 + state) + "]";
        }
        return {};
    }
    static std::string missing_or_no_timer(u64 state) {
        return !offers(vmcs::pin_controls, vmcs::pin_preemption_timer) ? "no VMX-preemption timer"
                                                                       : missing(state);
    }
    static abi::Peer peer(PeerAct act, u64 count, u32 cpu, u64 delay = 0, u8 with = vector) {
        return {.act = static_cast<u16>(act),
                .vector = with,
                .notification = 0,
                .cpu = cpu,
                .count = count,
                .mark = mark,
                .delay = delay,
                .address = 0,
                .value = 0};
    }
    static client::Plan plan() {
        client::Plan p;
        p.intercepts = client::on(abi::Intercept::cpuid);
        p.policy = {{.reason = static_cast<u16>(Reason::cpuid),
                     .action = static_cast<u8>(abi::Action::advance),
                     .length = 2,
                     .event = 0}};
        return p;
    }
    // INITs that go on exiting end the run by this, and the target with it: no later claim could run there.
    static u64 limit() { return 5'000'000 * (host().target.info().counts_instructions ? 1 : 1'000); }
    static void give_up_if_it_goes_on(const client::RunResult& r) {
        if (r.outcome == abi::Outcome::deadline) {
            ADD_FAILURE() << "it goes on exiting: " << r.count(Reason::init) << " exits by INIT";
            host().target.stop();
        }
    }
    // A guest that marks and goes on, with so many acts of the peer on its way.
    static client::RunResult run_marking(client::GuestCode code, PeerAct act, u32 cpu) {
        Guest guest(host(), plan());
        guest.fill(mark, 0, 0, 1, false);
        guest.state.gpr[abi::r8] = 0x8877'6655'4433'2211;
        guest.load(code);
        auto r = guest.run({.cpu = cpu, .peer = peer(act, rounds, 1 - cpu), .deadline = limit()});
        give_up_if_it_goes_on(r);
        EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt) << "the stop stub";
        EXPECT_EQ(r.reply.peer_acts, rounds);
        EXPECT_EQ(r.reply.state.gpr[abi::rbx], rounds);
        EXPECT_EQ(r.reply.state.gpr[abi::r8], 0x8877'6655'4433'2211);
        EXPECT_EQ(r.reply.state.rip, layout::stop);
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        return r;
    }
    // An entry into the state, at which the peer acts later; the timer ends it.
    static client::RunResult run_sleeping(Guest& guest, u64 state, const abi::Peer& peer, u32 cpu) {
        const u64 x = msr(hello(), vmx_misc) & 31;
        guest.fill(mark, peer.count, 0, 1, false);
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_sleeping_nops);
        guest.field(vmcs::activity, 4, state);
        change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
        return guest.run({.preemption_timer = static_cast<u32>(6 * entered >> x),
                          .cpu = cpu,
                          .peer = peer,
                          .deadline = limit()});
    }
    // What an act does to a guest in the state: the exit of that reason, or none.
    static void expect_at(u64 state, PeerAct act, Reason reason, bool exits) {
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE(testing::Message()
                         << "state " << state << ", act " << static_cast<int>(act) << " at CPU " << cpu);
            Guest guest(host(), client::Plan{});
            const auto r = run_sleeping(guest, state, peer(act, 1, 1 - cpu, entered), cpu);
            give_up_if_it_goes_on(r);
            if (HasFailure()) {
                break;
            }
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(r.reply.peer_acts, 1u);
            EXPECT_EQ(r.count(reason), exits ? 1u : 0u) << "exits";
            EXPECT_EQ(r.reply.entries, exits ? 2u : 1u);
            EXPECT_EQ(r.exceptions.count, 0u);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
    }
    // And behind that exit it is in the state still, which the timer ends.
    static void expect_still_at(u64 state, PeerAct act) {
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE(testing::Message()
                         << "state " << state << ", act " << static_cast<int>(act) << " at CPU " << cpu);
            Guest guest(host(), client::Plan{});
            const auto r = run_sleeping(guest, state, peer(act, 1, 1 - cpu, entered), cpu);
            expect_exit(r, Reason::preemption_timer, layout::code);
            EXPECT_EQ(r.reply.entries, 2u);
            EXPECT_EQ(guest.read_field(vmcs::activity, 4, false), state) << "activity state";
        }
    }
};

// Not a reset, not lost, and once each.
TEST_F(PeerSignals, vmx_inits_exit_once_each) {
    claim({.sdm = "SDM 3C 24.3, 26.2"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE(testing::Message() << "CPU " << cpu);
            const auto r = run_marking(guest_marks_and_waits, PeerAct::init, cpu);
            if (HasFailure()) {
                break;
            }
            EXPECT_EQ(r.count(Reason::init), rounds);
        }
        combinations(2 * rounds);
    });
}

// Blocked in root operation, an INIT waits for the entry.
TEST_F(PeerSignals, vmx_inits_wait_while_the_host_runs) {
    claim({.sdm = "SDM 3C 24.3, 26.2"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE(testing::Message() << "CPU " << cpu);
            const auto r = run_marking(guest_marks_and_exits, PeerAct::init, cpu);
            if (HasFailure()) {
                break;
            }
            EXPECT_EQ(r.count(Reason::init), rounds);
            EXPECT_EQ(r.count(Reason::cpuid), 150 * rounds) << "none lost or doubled by it";
        }
        combinations(2 * rounds);
    });
}

TEST_F(PeerSignals, vmx_start_up_ipis_are_lost_on_an_active_guest) {
    claim({.sdm = "SDM 3C 26.2, 27.7.2"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE(testing::Message() << "CPU " << cpu);
            const auto r = run_marking(guest_marks_and_waits, PeerAct::start_up, cpu);
            EXPECT_EQ(r.count(Reason::sipi), 0u);
            EXPECT_EQ(r.reply.entries - r.count(Reason::external_interrupt), 1u) << "no exit of any reason";
        }
        combinations(2 * rounds);
    });
}

TEST_F(PeerSignals, vmx_hlt_state_blocks_start_up_ipis_alone) {
    claim({.sdm = "SDM 3C 26.2, 27.7.2"}, [&] {
        needs(abi::Permit::deaf_guests);
        if (const std::string why = missing_or_no_timer(hlt); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_at(hlt, PeerAct::interrupt, Reason::external_interrupt, true);
        expect_at(hlt, PeerAct::nmi, Reason::nmi, true);
        expect_at(hlt, PeerAct::start_up, Reason::sipi, false);
        combinations(6);
    });
}

TEST_F(PeerSignals, vmx_shutdown_state_blocks_interrupts_and_start_up_ipis) {
    claim({.sdm = "SDM 3C 26.2, 27.7.2"}, [&] {
        needs(abi::Permit::deaf_guests);
        if (const std::string why = missing_or_no_timer(shutdown); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_at(shutdown, PeerAct::interrupt, Reason::external_interrupt, false);
        expect_at(shutdown, PeerAct::nmi, Reason::nmi, true);
        expect_at(shutdown, PeerAct::start_up, Reason::sipi, false);
        combinations(6);
    });
}

TEST_F(PeerSignals, vmx_inits_exit_from_hlt_and_shutdown) {
    claim({.sdm = "SDM 3C 26.2, 27.7.2"}, [&] {
        needs(abi::Permit::deaf_guests);
        for (const u64 state : {hlt, shutdown}) {
            if (const std::string why = missing_or_no_timer(state); !why.empty()) {
                GTEST_SKIP() << why;
            }
            if (!HasFailure()) {
                expect_at(state, PeerAct::init, Reason::init, true);
            }
        }
        combinations(4);
    });
}

// The state is that before the exit: the guest, entered again, is in it.
TEST_F(PeerSignals, vmx_exits_by_interrupts_and_nmis_save_the_state_that_they_end) {
    claim({.sdm = "SDM 3C 28.1, 28.3.4"}, [&] {
        needs(abi::Permit::deaf_guests);
        for (const u64 state : {hlt, shutdown}) {
            if (const std::string why = missing_or_no_timer(state); !why.empty()) {
                GTEST_SKIP() << why;
            }
        }
        expect_still_at(hlt, PeerAct::interrupt);
        expect_still_at(hlt, PeerAct::nmi);
        expect_still_at(shutdown, PeerAct::nmi);
        combinations(6);
    });
}

// The preemption timer, which has long been at 0, ends nothing there (SDM 3C 26.5.1). The first start-up IPIs
// may find the CPU in root operation, which blocks them.
TEST_F(PeerSignals, vmx_start_up_ipi_ends_wait_for_sipi_with_its_vector) {
    claim({.sdm = "SDM 3C 26.2, 26.5.1, 27.7.2, 28.2.1"}, [&] {
        needs(abi::Permit::deaf_guests);
        if (const std::string why = missing_or_no_timer(wait_for_sipi); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const u8 with : {u8{0}, u8{1}, page, u8{0xff}}) {
            for (const u32 cpu : {0u, 1u}) {
                SCOPED_TRACE(testing::Message() << "vector " << int{with} << " to CPU " << cpu);
                Guest guest(host(), client::Plan{});
                const auto r = run_sleeping(guest, wait_for_sipi,
                                            peer(PeerAct::start_up, 10, 1 - cpu, 8 * entered, with), cpu);
                expect_exit(r, Reason::sipi, layout::code);
                EXPECT_EQ(r.reply.exit.raw_reason, 4u);
                EXPECT_EQ(r.reply.exit.qualification, with);
                EXPECT_EQ(r.reply.entries, 1u);
            }
        }
        combinations(8);
    });
}

TEST_F(PeerSignals, vmx_exit_by_a_start_up_ipi_saves_wait_for_sipi) {
    claim({.sdm = "SDM 3C 28.1, 28.3.4"}, [&] {
        needs(abi::Permit::deaf_guests);
        if (const std::string why = missing_or_no_timer(wait_for_sipi); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const u32 cpu : {0u, 1u}) {
            SCOPED_TRACE(testing::Message() << "CPU " << cpu);
            Guest guest(host(), client::Plan{});
            const auto r = run_sleeping(guest, wait_for_sipi,
                                        peer(PeerAct::start_up, 10, 1 - cpu, 8 * entered, page), cpu);
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::sipi);
            EXPECT_EQ(guest.read_field(vmcs::activity, 4, false), wait_for_sipi) << "activity state";
        }
        combinations(2);
    });
}

} // namespace refhv::front
