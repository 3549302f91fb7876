// SPDX-License-Identifier: MIT
// VMX: posted-interrupt processing (SDM 3C 30.6): a second CPU posts an interrupt and notifies, and the CPU
// that runs the guest takes all that is posted without an exit.
#include "conformance/apic/case.hpp"
#include "refhv/front/guests/ipi_sender.hpp"

namespace refhv::front {

using client::Guest;
using List = std::vector<unsigned>;

namespace {

// Says that it is ready and waits: for its handler, which ends the run; or, closed, until VIRR has the
// request. Not for ever: a CPU that posts nothing ends the run too.
#define READY "movq $1, " REFHV_ASM(REFHV_SCRATCH) "\n"
#define ROUNDS "mov $400000, %ecx\n"
GUEST(guest_waits_open, "sti\n" ROUNDS READY "1: pause\n dec %ecx\n jnz 1b")
GUEST(guest_waits_closed,
      ROUNDS READY "1: pause\n testl $2, " REFHV_ASM(REFHV_APIC_PAGE) "+0x230\n jnz 2f\n"
                                                                      "dec %ecx\n jnz 1b\n 2:")
GUEST(guest_waits_in_hlt, READY "sti\n hlt\n nop")

GUEST(guest_spins, "1: pause\n jmp 1b")

constexpr u64 exit_acknowledge = 1u << 15;
constexpr unsigned notification = 0xd1, requested = 0x61, earlier = 0x45; // `earlier` is in PIR already
static_assert(requested / 32 == 3 && requested % 32 == 1, "where guest_waits_closed looks");
constexpr u64 descriptor = apic::spare_page;

} // namespace

class ApicPosted : public Apic {
  protected:
    static constexpr apic::Controls needed{apic::tpr_shadow, apic::delivery};

    static std::string missing() { return apic::lacking_posting(hello()); }

    static void prepare(Guest& guest, client::GuestCode waits) {
        guest.load(waits);
        apic::virtualize(guest, needed);
        apic::accept_posts(guest, descriptor, notification);
        apic::handle(guest, apic::Handler::stop);
        guest.fill(REFHV_SCRATCH, 0, 0, 1, false);
    }

    // Runs the guest while the other CPU posts `requested`. What the descriptor holds afterwards.
    static client::RunResult run(Guest& guest, client::GuestCode waits) {
        prepare(guest, waits);
        guest.fill(descriptor + earlier / 64 * 8, u64{1} << earlier % 64, 0, 1, false);
        client::Guest::Options options;
        options.peer = {.act = static_cast<u16>(abi::PeerAct::post),
                        .vector = requested,
                        .notification = notification,
                        .cpu = 1,
                        .count = 1,
                        .mark = REFHV_SCRATCH,
                        .delay = 10'000,
                        .address = descriptor,
                        .value = 0};
        return guest.run(options);
    }

    static void expect_processed(Guest& guest, const client::RunResult& r) {
        EXPECT_EQ(r.reply.interrupts, 0u) << "the notification is no exit";
        EXPECT_EQ(r.reply.peer_acts, 1u);
        const auto words = guest.read64(descriptor, 5);
        EXPECT_EQ(words[0] | words[1] | words[2] | words[3], 0u) << "PIR";
        EXPECT_EQ(words[4] & 1, 0u) << "ON";
    }
};

TEST_F(ApicPosted, vmx_posted_interrupts_arrive_without_an_exit) {
    claim({.sdm = "SDM 3C 30.6"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        const auto r = run(guest, guest_waits_open);
        expect_stopped(r);
        expect_processed(guest, r);
        const auto came = apic::arrivals(guest);
        ASSERT_EQ(came.size(), 1u);
        EXPECT_EQ(came[0].vector, requested) << "the highest";
        EXPECT_EQ(apic::vectors_left(guest, apic::irr), List{earlier}) << "VIRR";
        EXPECT_EQ(apic::vectors_left(guest, apic::isr), List{requested}) << "VISR";
        EXPECT_EQ(apic::rvi_left(guest), earlier) << "RVI";
        EXPECT_EQ(apic::svi_left(guest), requested) << "SVI";
    });
}

TEST_F(ApicPosted, vmx_posted_interrupts_are_requested_while_if_is_0) {
    claim({.sdm = "SDM 3C 30.6"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        const auto r = run(guest, guest_waits_closed);
        expect_stopped(r);
        expect_processed(guest, r);
        EXPECT_EQ(apic::arrivals(guest), std::vector<Arrival>());
        EXPECT_EQ(apic::vectors_left(guest, apic::irr), (List{earlier, requested})) << "VIRR";
        EXPECT_EQ(apic::rvi_left(guest), requested) << "RVI";
    });
}

TEST_F(ApicPosted, vmx_posted_interrupts_end_hlt) {
    claim({.sdm = "SDM 3C 30.2.2, 30.6"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        client::Plan p = plan();
        p.stop = client::Stop::port;
        Guest guest(host(), p);
        const auto r = run(guest, guest_waits_in_hlt);
        EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::io_out) << "the stop stub";
        expect_processed(guest, r);
        EXPECT_EQ(apic::arrivals(guest).size(), 1u);
    });
}

TEST_F(ApicPosted, vmx_virtualized_ipis_arrive_without_an_exit) {
    claim({.sdm = "SDM 3C 30.1.6, 30.6"}, [&] {
        std::string why = missing();
        why = why.empty() ? apic::lacking_ipis(hello()) : why;
        if (!why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        prepare(guest, guest_waits_open);
        apic::notify(guest, hello(), descriptor, notification, 0);
        IpiSender sender =
            IpiSender::virtualized(Session::get().second_host(), guest.host_physical(descriptor));
        const auto r = guest.run({.peer = IpiSender::peer(REFHV_SCRATCH)});
        EXPECT_NE(sender.finish(1).at(0), 0u);
        expect_stopped(r);
        expect_processed(guest, r);
        const auto came = apic::arrivals(guest);
        ASSERT_EQ(came.size(), 1u);
        EXPECT_EQ(came[0].vector, IpiSender::vector);
    });
}

// What posting needs besides. Twice, for an interrupt without an EOI would be the last of its priority; the
// deadline is one.
TEST_F(ApicPosted, vmx_interrupts_that_the_exit_acknowledges_reach_the_host) {
    claim({.sdm = "SDM 3C 25.7.1, 28.2.2"}, [&] {
        if (!offers(vmcs::exit_controls, exit_acknowledge)) {
            GTEST_SKIP() << "no acknowledging of interrupts on exit (IA32_VMX_EXIT_CTLS[47])";
        }
        const u64 deadline = host().target.info().counts_instructions ? 1'000'000 : 100'000'000;
        Guest guest(host(), plan());
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_spins);
        change(guest, vmcs::exit_controls, exit_acknowledge);
        for (const int run : {1, 2, 3}) {
            SCOPED_TRACE(run);
            const auto r = guest.run({.deadline = deadline});
            EXPECT_EQ(r.outcome, abi::Outcome::deadline) << r.text;
            EXPECT_GE(r.reply.interrupts, 1u);
            EXPECT_EQ(r.exceptions.count, 0u);
        }
    });
}

} // namespace refhv::front
