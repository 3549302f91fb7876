// SPDX-License-Identifier: MIT
// Injected events are no events that happened: nothing intercepts them, they end the shadow they came into;
// and what nested tables refuse on their way is told with them.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_rules_nops, "nop\n nop")

constexpr u64 stack_page = layout::stack_top - page_size;
// Code, readable, accessed, present, D = 1, G = 1, L = 0 (SDM 3C table 25-2).
constexpr u32 compatibility_code = 0xc09b;

} // namespace

class InjectRules : public Intr {
  protected:
    static bool no_timer() { return !offers(vmcs::pin_controls, vmcs::pin_preemption_timer); }
};

// Under NMI exiting and external-interrupt exiting (the NMI and INTR intercepts), as all guests here run.
TEST_F(InjectRules, injected_events_are_not_intercepted) {
    claim({"SDM 3C 27.6.1.2", "APM 2 15.20"}, [&] {
        for (const Event& e : all_events()) {
            SCOPED_TRACE(to_string(e));
            client::Plan plan;
            plan.exceptions = ~0u & ~(1u << 2); // no bit for NMIs in the VMCB's vector
            Guest guest(host(), plan);
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_rules_nops);
            inject(guest, e);
            expect_delivered(e, guest.run({}));
        }
        combinations(all_events().size());
    });
}

// At the handler's first instruction, where a timer of 0 exits, no shadow is left.
TEST_F(InjectRules, vmx_injected_event_ends_the_shadow_it_came_into) {
    claim({.sdm = "SDM 3C 27.7.1"}, [&] {
        if (no_timer()) {
            GTEST_SKIP() << "no VMX-preemption timer: IA32_VMX_PINBASED_CTLS, control 6";
        }
        const std::vector<Event> events{
            {.type = EventType::hardware_exception, .vector = 6},
            {.type = EventType::hardware_exception, .vector = 13, .has_error = true, .error = 0x10d},
            {.type = EventType::software_interrupt, .vector = free_vector, .length = 2}};
        for (const Event& e : events) {
            for (const u64 blocking : {vmcs::blocking_by_sti, vmcs::blocking_by_mov_ss}) {
                SCOPED_TRACE(testing::Message() << to_string(e) << ", blocking " << blocking);
                Guest guest(host(), client::Plan{});
                guest.state.rflags = 2 | rflags_if;
                guest.load(guest_rules_nops);
                change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
                guest.field(vmcs::interruptibility, 4, blocking);
                inject(guest, e);
                const auto r = guest.run({.preemption_timer = 0});
                expect_exit(r, Reason::preemption_timer, layout::vectors + 16 * e.vector);
                EXPECT_EQ(guest.read_field(vmcs::interruptibility, 4, false), 0u);
            }
        }
        combinations(2 * events.size());
    });
}

TEST_F(InjectRules, nested_violation_on_the_way_is_told_with_the_event) {
    claim({"SDM 3C 28.2.1, 28.2.4", "APM 2 15.7.2, 15.25.6"}, [&] {
        struct Page {
            const char* what;
            u64 page;
        };
        u64 tried = 0;
        for (const Page& p : {Page{"IDT", layout::idt}, {"GDT", layout::gdt}, {"the stack", stack_page}}) {
            for (const Event& e : all_events()) {
                SCOPED_TRACE(testing::Message() << to_string(e) << ", " << p.what);
                Guest guest(host(), client::Plan{});
                guest.state.rflags = 2 | rflags_if;
                guest.load(guest_rules_nops);
                guest.protect(p.page, 1, 0);
                inject(guest, e);
                const auto r = guest.run({});
                expect_exit(r, Reason::nested_violation, layout::code);
                EXPECT_EQ(r.reply.exit.guest_physical & ~u64{page_size - 1}, p.page);
                constexpr u64 vector_type_error_valid = 0x8000'0fff;
                EXPECT_EQ(r.reply.exit.vectoring & vector_type_error_valid,
                          encode(e) & vector_type_error_valid);
                if (e.has_error) {
                    EXPECT_EQ(r.reply.exit.vectoring >> 32, e.error);
                }
                EXPECT_EQ(r.exceptions.count, 0u);
                ++tried;
            }
        }
        combinations(tried);
    });
}

// IA32_VMX_BASIC[56] frees the error code of the vector: what is pushed is what the field says. A timer of 0
// exits at the handler's first instruction, where RSP tells how much was pushed.
TEST_F(InjectRules, vmx_error_code_of_any_exception_is_pushed_as_asked_with_basic_56) {
    claim({.sdm = "SDM 3C 27.2.1.3, 27.6.1.1"}, [&] {
        constexpr u32 vmx_basic = 0x480;
        if ((msr(hello(), vmx_basic) >> 56 & 1) == 0) {
            GTEST_SKIP() << "IA32_VMX_BASIC[56] is 0";
        }
        if (no_timer()) {
            GTEST_SKIP() << "no VMX-preemption timer: IA32_VMX_PINBASED_CTLS, control 6";
        }
        u64 tried = 0;
        for (const u8 vector : {0, 3, 6, 7, 8, 13, 14, 17}) {
            for (const bool has_error : {false, true}) {
                const Event e{.type = EventType::hardware_exception,
                              .vector = vector,
                              .has_error = has_error,
                              .error = has_error ? 0x55u : 0};
                SCOPED_TRACE(to_string(e));
                Guest guest(host(), client::Plan{});
                guest.load(guest_rules_nops);
                change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
                inject(guest, e);
                const auto r = guest.run({.preemption_timer = 0});
                expect_exit(r, Reason::preemption_timer, layout::vectors + 16 * vector);
                const u64 before =
                    guest.state.gpr[abi::rsp] & ~u64{15}; // the frame is aligned in IA-32e mode
                EXPECT_EQ(before - r.reply.state.gpr[abi::rsp], 8u * (has_error ? 6 : 5));
                ++tried;
            }
        }
        combinations(tried);
    });
}

// As INT3 would raise it.
TEST_F(InjectRules, svm_breakpoint_arrives_as_an_exception) {
    claim({.apm = "APM 2 15.20"}, [&] {
        const auto r = run_with({.type = EventType::hardware_exception, .vector = 3});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, 3u);
    });
}

// In compatibility mode, where INTO and BOUND raise them. In 64-bit code neither instruction is legal (APM
// 3), and 15.20 does not say whether their vectors still "correspond to an exception" there: no claim is
// made.
TEST_F(InjectRules, svm_overflow_and_bound_range_arrive_in_compatibility_mode) {
    claim({.apm = "APM 2 15.20"}, [&] {
        for (const u8 vector : {4, 5}) {
            SCOPED_TRACE(+vector);
            Guest guest(host(), client::Plan{});
            guest.load(guest_rules_nops);
            guest.state.segment[abi::cs].rights = compatibility_code;
            inject(guest, {.type = EventType::hardware_exception, .vector = vector});
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, vector);
        }
        combinations(2);
    });
}

} // namespace refhv::front
