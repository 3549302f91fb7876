// SPDX-License-Identifier: MIT
// Every kind of event that an entry can inject arrives, once, where and as it should; what an entry must not
// inject is refused; and an event whose delivery fails is named in the exit's vectoring information.
#include "conformance/inject/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

GUEST(guest_nop_here, "nop")

constexpr u64 rflags_if = 1u << 9;
constexpr u8 not_present = 11;
constexpr Event nmi{.type = EventType::nmi, .vector = 2};

} // namespace

TEST_F(Inject, exceptions_arrive_with_their_error_codes) {
    claim({"SDM 3C 27.6.1", "APM 2 15.20"}, [&] {
        for (const Event& e : exceptions()) {
            expect_delivered(e, run_with(e));
        }
        combinations(exceptions().size());
    });
}

TEST_F(Inject, external_interrupts_of_any_vector_arrive_and_clear_if) {
    claim({"SDM 3C 27.6.1", "APM 2 15.20"}, [&] {
        u64 tried = 0;
        for (const u8 vector : {20, 22, 24, 28, 31}) {
            const Event e{.type = EventType::external_interrupt, .vector = vector};
            const auto r = run_with(e, 2 | rflags_if);
            expect_delivered(e, r);
            EXPECT_EQ(r.exceptions.rflags & rflags_if, rflags_if) << "as it was";
            EXPECT_EQ(r.reply.state.rflags & rflags_if, 0u) << "behind an interrupt gate";
            ++tried;
        }
        combinations(tried);
    });
}

// The vector says nothing about an error code where the type is not an exception's.
TEST_F(Inject, external_interrupt_with_an_exceptions_vector_pushes_no_error_code) {
    claim({"SDM 3C 27.6.1.1", "APM 2 15.20"}, [&] {
        Guest guest(host(), client::Plan{});
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_nop_here);
        // The stub of vector 28 takes what has no error code.
        constexpr u64 entry = client::layout::vectors + 16 * free_vector;
        guest.gate(13, entry);
        inject(guest, {.type = EventType::external_interrupt, .vector = 13});
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(r.exceptions.vector, free_vector);
        EXPECT_EQ(r.exceptions.rip, client::layout::code);
        EXPECT_EQ(r.exceptions.rflags & rflags_if, rflags_if);
    });
}

TEST_F(Inject, nmi_arrives_whatever_if_says) {
    claim({"SDM 3C 27.6.1", "APM 2 15.20"}, [&] {
        expect_delivered(nmi, run_with(nmi));
        expect_delivered(nmi, run_with(nmi, 2 | rflags_if));
        combinations(2);
    });
}

// What it pushes as RIP needs nRIP, which not every CPU has.
TEST_F(Inject, svm_software_interrupt_arrives) {
    claim({.apm = "APM 2 15.20"}, [&] {
        const auto r = run_with({.type = EventType::software_interrupt, .vector = free_vector});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, free_vector);
    });
}

TEST_F(Inject, vmx_software_events_return_behind_their_instruction) {
    claim({.sdm = "SDM 3C 27.6.1.1"}, [&] {
        u64 tried = 0;
        for (const u32 length : {1u, 2u, 15u}) {
            for (const auto& [type, vector] : {std::pair{EventType::software_interrupt, free_vector},
                                               {EventType::software_exception, u8{3}},
                                               {EventType::software_exception, u8{4}},
                                               {EventType::privileged_software, u8{1}}}) {
                const Event e{.type = type, .vector = vector, .length = length};
                expect_delivered(e, run_with(e));
                ++tried;
            }
        }
        combinations(tried);
    });
}

// Injects each event while its gate is not present, which ends in #NP, intercepted; calls check(event,
// result).
template <class Prepare, class Check>
static u64 through_missing_gates(client::GuestHost& host, const std::vector<Event>& events, Prepare prepare,
                                 Check check) {
    for (const Event& e : events) {
        SCOPED_TRACE(to_string(e));
        client::Plan plan;
        plan.exceptions = 1u << not_present;
        Guest guest(host, plan);
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_nop_here);
        prepare(guest, e);
        const auto r = guest.run({});
        EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::exception);
        EXPECT_EQ(r.reply.exit.vector, not_present);
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(r.reply.state.rip, client::layout::code) << "where the event came";
        check(e, r);
    }
    return events.size();
}

TEST_F(Inject, failed_delivery_is_told_by_the_vectoring_information) {
    claim({"SDM 3C 28.2.4", "APM 2 15.7.2"}, [&] {
        const auto check = [](const Event& e, const client::RunResult& r) {
            constexpr u64 vector_type_error_valid = 0x8000'0fff;
            EXPECT_EQ(r.reply.exit.vectoring & vector_type_error_valid, encode(e) & vector_type_error_valid);
            if (e.has_error) {
                EXPECT_EQ(r.reply.exit.vectoring >> 32, e.error);
            }
        };
        combinations(through_missing_gates(host(), benign_events(), meet_missing_gate, check));
    });
}

TEST_F(Inject, missing_gate_is_named_by_the_error_code) {
    claim({"SDM 3A 6.13", "APM 2 8.4.1"}, [&] {
        const auto check = [](const Event& e, const client::RunResult& r) {
            const u64 error = on_svm() ? r.reply.exit.qualification : r.reply.exit.interruption_error;
            EXPECT_EQ(error, missing_gate_error(e));
        };
        combinations(through_missing_gates(host(), benign_events(), meet_missing_gate, check));
    });
}

// SDM 3A table 6-5; APM 2 table 8-3.
TEST_F(Inject, contributory_exceptions_without_a_gate_end_in_a_double_fault) {
    claim({"SDM 3A 6.15", "APM 2 8.2.9"}, [&] {
        constexpr u8 double_fault = 8;
        auto events = exceptions();
        std::erase_if(events,
                      [](const Event& e) { return e.vector != 0 && (e.vector < 10 || e.vector > 14); });
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Guest guest(host(), client::Plan{});
            guest.load(guest_nop_here);
            meet_missing_gate(guest, e);
            const auto r = guest.run({});
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, double_fault);
            EXPECT_EQ(r.exceptions.error, 0u);
        }
        combinations(events.size());
    });
}

// The IDT lies in a page that the nested tables do not show; the core maps it and enters again: the event is
// delivered then, once.
TEST_F(Inject, event_cut_short_by_a_nested_violation_is_delivered_anew) {
    claim({"SDM 3C 28.2.4", "APM 2 15.7.2"}, [&] {
        auto events = exceptions();
        events.push_back({.type = EventType::external_interrupt, .vector = free_vector});
        events.push_back(nmi);
        if (on_vmx()) {
            events.push_back({.type = EventType::software_interrupt, .vector = free_vector, .length = 2});
        }
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            client::Plan plan;
            plan.policy.push_back({.reason = static_cast<u16>(Reason::nested_violation),
                                   .action = static_cast<u8>(abi::Action::map_and_retry),
                                   .length = 0,
                                   .event = 0});
            Guest guest(host(), plan);
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_nop_here);
            guest.protect(client::layout::idt, 1, 0);
            inject(guest, e);
            const auto r = guest.run({});
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
            EXPECT_EQ(r.count(Reason::nested_violation), 1u);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, e.vector);
            EXPECT_EQ(r.exceptions.error, e.error);
            EXPECT_EQ(r.exceptions.rip, client::layout::code + e.length);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        }
        combinations(events.size());
    });
}

} // namespace refhv::front
