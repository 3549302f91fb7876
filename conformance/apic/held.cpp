// SPDX-License-Identifier: MIT
// VMX: what holds a recognized virtual interrupt back, what comes before it, and what it wakes (SDM 3C
// 30.2.2).
#include "conformance/apic/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;
using Arrivals = std::vector<Arrival>;

namespace {

GUEST(guest_three_nops, "nop\n nop\n nop")
GUEST(guest_sti_hlt, "sti\n hlt\n nop")
GUEST(guest_sti_hlt_only, "sti\n hlt")

constexpr u32 vmx_misc = 0x485;
constexpr u64 hlt_state = 1;
constexpr unsigned pending = 0x81;
constexpr u32 patience = 100'000; // units of the preemption timer

} // namespace

class ApicHeld : public Apic {
  protected:
    static constexpr apic::Controls needed{apic::tpr_shadow, apic::delivery};

    // One interrupt is requested and nothing in service; `further` primary processor-based controls are set.
    static void request(Guest& guest, u64 further = 0) {
        apic::virtualize(guest, needed, further);
        apic::handle(guest, apic::Handler::stop);
        apic::put_vectors(guest, apic::irr, {pending});
        apic::put_status(guest, 0, pending);
    }
    static void expect_still_pending(Guest& guest) {
        EXPECT_EQ(apic::arrivals(guest), Arrivals());
        EXPECT_EQ(apic::vectors_left(guest, apic::irr), std::vector<unsigned>{pending}) << "VIRR";
        EXPECT_EQ(apic::vectors_left(guest, apic::isr), std::vector<unsigned>()) << "VISR";
        EXPECT_EQ(apic::rvi_left(guest), pending) << "RVI";
        EXPECT_EQ(apic::svi_left(guest), 0u) << "SVI";
    }
    static bool no_timer() { return !offers(vmcs::pin_controls, vmcs::pin_preemption_timer); }
    static bool no_hlt_state() { return (msr(hello(), vmx_misc) >> 6 & 1) == 0; }
};

TEST_F(ApicHeld, vmx_virtual_interrupt_waits_for_if_and_shadows) {
    claim({.sdm = "SDM 3C 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const Opening& o : openings()) {
            SCOPED_TRACE(o.what);
            Guest guest(host(), plan());
            prepare(guest, o);
            request(guest);
            expect_stopped(guest.run({}));
            if (o.at == Opening::never) {
                expect_still_pending(guest);
            } else {
                EXPECT_EQ(apic::arrivals(guest), Arrivals({{pending, code + o.at}}));
            }
        }
        combinations(openings().size());
    });
}

TEST_F(ApicHeld, vmx_interrupt_window_exiting_keeps_it_from_being_recognized) {
    claim({.sdm = "SDM 3C 30.2.1, 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const Opening& o : openings()) {
            SCOPED_TRACE(o.what);
            Guest guest(host(), plan());
            prepare(guest, o);
            request(guest, vmcs::proc_interrupt_window);
            const auto r = guest.run({});
            if (o.at == Opening::never) {
                expect_stopped(r);
            } else {
                expect_exit(r, Reason::interrupt_window, code + o.at);
            }
            expect_still_pending(guest);
        }
        combinations(openings().size());
    });
}

TEST_F(ApicHeld, vmx_timer_goes_before_a_virtual_interrupt) {
    claim({.sdm = "SDM 3C 27.7.4, 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty() || no_timer()) {
            GTEST_SKIP() << (why.empty() ? "no VMX-preemption timer (IA32_VMX_PINBASED_CTLS[38])" : why);
        }
        Guest guest(host(), plan());
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_three_nops);
        change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
        request(guest);
        expect_exit(guest.run({.preemption_timer = 0}), Reason::preemption_timer, code);
        expect_still_pending(guest);
    });
}

TEST_F(ApicHeld, vmx_nmi_window_goes_before_a_virtual_interrupt) {
    claim({.sdm = "SDM 3C 27.7.6, 30.2.2"}, [&] {
        const bool windows = offers(vmcs::pin_controls, vmcs::pin_virtual_nmis) &&
                             offers(vmcs::proc_controls, vmcs::proc_nmi_window);
        if (const std::string why = lacking(needed); !why.empty() || !windows) {
            GTEST_SKIP() << (why.empty()
                                 ? "no virtual NMIs and NMI-window exiting (IA32_VMX_PINBASED_CTLS[37], "
                                   "IA32_VMX_PROCBASED_CTLS[54])"
                                 : why);
        }
        Guest guest(host(), plan());
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_three_nops);
        change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
        request(guest, vmcs::proc_nmi_window);
        expect_exit(guest.run({}), Reason::nmi_window, code);
        expect_still_pending(guest);
    });
}

TEST_F(ApicHeld, vmx_injected_event_goes_before_a_virtual_interrupt) {
    claim({.sdm = "SDM 3C 27.6, 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u64 step = 1; // what the handler of the injected event adds to RIP before it returns
        const std::vector<Event> events{{.type = EventType::hardware_exception, .vector = 6},
                                        {.type = EventType::nmi, .vector = 2},
                                        {.type = EventType::external_interrupt, .vector = free_vector}};
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Guest guest(host(), plan());
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_three_nops);
            request(guest);
            inject(guest, e);
            const auto r = guest.run({.handler_advance = step});
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, e.vector);
            EXPECT_EQ(r.exceptions.rip, code);
            EXPECT_EQ(apic::arrivals(guest), Arrivals({{pending, code + step}})) << "behind the IRET";
        }
        combinations(events.size());
    });
}

TEST_F(ApicHeld, vmx_virtual_interrupt_wakes_an_entry_into_hlt) {
    claim({.sdm = "SDM 3C 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty() || no_hlt_state() || no_timer()) {
            GTEST_SKIP() << (why.empty()
                                 ? "no activity state HLT (IA32_VMX_MISC[6]), or no VMX-preemption timer"
                                 : why);
        }
        for (const bool enabled : {true, false}) {
            SCOPED_TRACE(enabled);
            client::Plan p = plan();
            p.stop = client::Stop::port;
            Guest guest(host(), p);
            guest.state.rflags = 2 | (enabled ? rflags_if : 0);
            guest.load(guest_three_nops);
            change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
            request(guest);
            guest.field(vmcs::activity, 4, hlt_state);
            const auto r = guest.run({.preemption_timer = patience});
            if (enabled) {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::io_out) << "the stop stub";
                EXPECT_EQ(apic::arrivals(guest), Arrivals({{pending, code}}));
            } else {
                expect_exit(r, Reason::preemption_timer, code);
                expect_still_pending(guest);
            }
        }
        combinations(2);
    });
}

TEST_F(ApicHeld, vmx_virtual_interrupt_ends_hlt) {
    claim({.sdm = "SDM 3C 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty() || no_timer()) {
            GTEST_SKIP() << (why.empty() ? "no VMX-preemption timer (IA32_VMX_PINBASED_CTLS[38])" : why);
        }
        client::Plan p = plan();
        p.stop = client::Stop::port;
        Guest guest(host(), p);
        guest.load(guest_sti_hlt);
        change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
        request(guest);
        const auto r = guest.run({.preemption_timer = patience});
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::io_out) << "the stop stub";
        EXPECT_EQ(apic::arrivals(guest), Arrivals({{pending, code + guest_sti_hlt_only.size()}}));
    });
}

// The interrupt is in service by then, and the exit names it.
TEST_F(ApicHeld, vmx_fault_of_its_delivery_names_it) {
    claim({.sdm = "SDM 3C 28.2.4, 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u8 not_present = 11;
        constexpr u64 valid = 1u << 31, in_idt = 2, external = 1;
        client::Plan p = plan();
        p.exceptions = 1u << not_present;
        Guest guest(host(), p);
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_three_nops);
        request(guest);
        guest.fill(client::layout::idt + 16 * pending, u64{client::layout::code64} << 16 | u64{0x0e00} << 32,
                   0, 1,
                   false); // a gate without P
        const auto r = guest.run({});
        expect_exit(r, Reason::exception, code);
        EXPECT_EQ(r.reply.exit.vector, not_present);
        EXPECT_EQ(r.reply.exit.interruption_error, pending * 8 | in_idt | external);
        EXPECT_EQ(r.reply.exit.vectoring & 0xffff'ffff, valid | pending);
        EXPECT_EQ(apic::vectors_left(guest, apic::irr), std::vector<unsigned>()) << "VIRR";
        EXPECT_EQ(apic::vectors_left(guest, apic::isr), std::vector<unsigned>{pending}) << "VISR";
        EXPECT_EQ(apic::svi_left(guest), pending) << "SVI";
    });
}

} // namespace refhv::front
