// SPDX-License-Identifier: MIT
// SVM: virtual interrupts, what holds them back, and the VINTR intercept as interrupt window.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

GUEST(guest_some_nops, "nop\n nop\n nop")
GUEST(guest_sets_if, "sti\n nop\n nop")
GUEST(guest_sets_if_end, "sti\n nop")
GUEST(guest_iret, "iretq")
GUEST(guest_clgi, "clgi")
GUEST(guest_stgi, "stgi")
GUEST(guest_gif_off, "nop\n clgi\n nop")
GUEST(guest_gif_on, "nop\n stgi\n nop")
GUEST(guest_gif_off_on, "clgi\n sti\n nop\n nop\n stgi\n nop")
GUEST(guest_gif_off_on_end, "clgi\n sti\n nop\n nop\n stgi")

constexpr u64 exit_vintr = 0x64, exit_iret = 0x74, exit_stgi = 0x84, exit_clgi = 0x85;
constexpr u64 highest_priority = 15;

} // namespace

class IntrVirtual : public Intr {
  protected:
    static constexpr u64 step = 1; // what the guest's handler adds to RIP before it returns
    static constexpr u64 pending =
        vmcb::v_irq | vmcb::v_intr_prio(highest_priority) | vmcb::v_intr_vector(free_vector);

    static bool no_vgif() { return (cpuid(hello(), 0x8000'000a, 0, 3) >> 16 & 1) == 0; }
    static void control(Guest& guest, u64 bits) { guest.field(vmcb::interrupt_control, 8, bits); }
    static u64 control_left(Guest& guest) { return guest.read_field(vmcb::interrupt_control, 8, false); }

    static void expect_taken(Guest& guest, const client::RunResult& r, u64 rip) {
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 1u);
        EXPECT_EQ(r.exceptions.vector, free_vector);
        EXPECT_EQ(r.exceptions.rip, rip);
        EXPECT_EQ(r.exceptions.rflags & rflags_if, rflags_if) << "as it was";
        EXPECT_EQ(control_left(guest) & vmcb::v_irq, 0u) << "cleared when it is taken";
    }
    static void expect_held(Guest& guest, const client::RunResult& r) {
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(control_left(guest) & vmcb::v_irq, vmcb::v_irq) << "written back";
    }

    // Parts of the table of openings.
    static bool plain_at_entry(const Opening& o) { return !o.shadowed && !opened_by_the_guest(o); }
    static bool shadowed_at_entry(const Opening& o) { return o.shadowed; }
    static bool opened_by_the_guest(const Opening& o) { return !o.enabled && !o.nops_only; }

    void expect_interrupts(bool (*part)(const Opening&)) {
        u64 tried = 0;
        for (const u64 masking : {u64{0}, vmcb::v_intr_masking}) {
            for (const Opening& o : openings()) {
                if (!part(o)) {
                    continue;
                }
                SCOPED_TRACE(testing::Message() << o.what << ", V_INTR_MASKING " << (masking != 0));
                Guest guest(host(), client::Plan{});
                prepare(guest, o);
                control(guest, pending | masking);
                const auto r = guest.run({});
                if (o.at == Opening::never) {
                    expect_held(guest, r);
                } else {
                    expect_taken(guest, r, code + o.at);
                }
                ++tried;
            }
        }
        combinations(tried);
    }

    void expect_windows(bool (*part)(const Opening&)) {
        u64 tried = 0;
        for (const Opening& o : openings()) {
            if (!part(o)) {
                continue;
            }
            SCOPED_TRACE(o.what);
            Guest guest(host(), client::Plan{});
            prepare(guest, o);
            change(guest, vmcb::intercept_1, vmcb::vintr);
            control(guest, pending | vmcb::v_intr_masking);
            const auto r = guest.run({});
            if (o.at == Opening::never) {
                expect_stopped(r);
            } else {
                expect_exit(r, Reason::interrupt_window, code + o.at);
                EXPECT_EQ(r.reply.exit.raw_reason, exit_vintr);
            }
            EXPECT_EQ(r.exceptions.count, 0u);
            EXPECT_EQ(control_left(guest) & vmcb::v_irq, vmcb::v_irq) << "not taken yet";
            ++tried;
        }
        combinations(tried);
    }
};

TEST_F(IntrVirtual, svm_virtual_interrupt_obeys_if_at_entry) {
    claim({.apm = "APM 2 15.21.1, 15.21.4"}, [&] { expect_interrupts(plain_at_entry); });
}
TEST_F(IntrVirtual, svm_virtual_interrupt_waits_for_the_shadow_at_entry) {
    claim({.apm = "APM 2 15.21.4, 15.21.5"}, [&] { expect_interrupts(shadowed_at_entry); });
}
TEST_F(IntrVirtual, svm_virtual_interrupt_comes_when_the_guest_sets_if) {
    claim({.apm = "APM 2 15.21.4, 15.21.5"}, [&] { expect_interrupts(opened_by_the_guest); });
}

TEST_F(IntrVirtual, svm_vintr_intercept_obeys_if_at_entry) {
    claim({.apm = "APM 2 15.21.6, 15.13.5"}, [&] { expect_windows(plain_at_entry); });
}
TEST_F(IntrVirtual, svm_vintr_intercept_waits_for_the_shadow_at_entry) {
    claim({.apm = "APM 2 15.21.5, 15.21.6"}, [&] { expect_windows(shadowed_at_entry); });
}
TEST_F(IntrVirtual, svm_vintr_intercept_exits_when_the_guest_sets_if) {
    claim({.apm = "APM 2 15.21.5, 15.21.6"}, [&] { expect_windows(opened_by_the_guest); });
}

TEST_F(IntrVirtual, svm_virtual_interrupt_is_taken_above_v_tpr) {
    claim({.apm = "APM 2 15.21.4"}, [&] {
        u64 tried = 0;
        for (const u64 ignore : {u64{0}, vmcb::v_ign_tpr}) {
            for (const u64 priority : {0, 1, 2, 7, 8, 14, 15}) {
                for (const u64 tpr : {0, 1, 2, 7, 8, 14, 15}) {
                    SCOPED_TRACE(testing::Message() << "V_INTR_PRIO " << priority << ", V_TPR " << tpr
                                                    << ", V_IGN_TPR " << (ignore != 0));
                    Guest guest(host(), client::Plan{});
                    guest.load(guest_sets_if);
                    control(guest, vmcb::v_irq | vmcb::v_intr_prio(priority) | ignore | tpr |
                                       vmcb::v_intr_masking | vmcb::v_intr_vector(free_vector));
                    const auto r = guest.run({});
                    if (ignore != 0 || priority > tpr) {
                        expect_taken(guest, r, code + guest_sets_if_end.size());
                    } else {
                        expect_held(guest, r);
                    }
                    EXPECT_EQ(r.reply.state.cr8, tpr) << "V_TPR";
                    ++tried;
                }
            }
        }
        combinations(tried);
    });
}

// The handler's gate clears IF; its IRET lets the virtual interrupt in.
TEST_F(IntrVirtual, svm_injected_event_goes_before_a_virtual_interrupt) {
    claim({.apm = "APM 2 15.20, 15.21.4"}, [&] {
        const std::vector<Event> events{{.type = EventType::hardware_exception, .vector = 6},
                                        {.type = EventType::nmi, .vector = 2},
                                        {.type = EventType::external_interrupt, .vector = free_vector}};
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Guest guest(host(), client::Plan{});
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_some_nops);
            change(guest, vmcb::intercept_1, vmcb::vintr);
            control(guest, pending | vmcb::v_intr_masking);
            inject(guest, e);
            const auto r = guest.run({.handler_advance = step});
            expect_exit(r, Reason::interrupt_window, code + step);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, e.vector);
            EXPECT_EQ(r.exceptions.rip, code);
        }
        combinations(events.size());
    });
}

TEST_F(IntrVirtual, svm_injected_interrupt_arrives_whatever_if_and_shadow_say) {
    claim({.apm = "APM 2 15.20"}, [&] {
        for (const u64 flags : {u64{2}, 2 | rflags_if}) {
            for (const u8 shadow : {0, 1}) {
                SCOPED_TRACE(testing::Message() << "RFLAGS " << flags << ", shadow " << +shadow);
                Guest guest(host(), client::Plan{});
                guest.state.rflags = flags;
                guest.state.interrupt_shadow = shadow;
                guest.load(guest_some_nops);
                inject(guest, {.type = EventType::external_interrupt, .vector = free_vector});
                const auto r = guest.run({});
                expect_stopped(r);
                EXPECT_EQ(r.exceptions.count, 1u);
                EXPECT_EQ(r.exceptions.vector, free_vector);
                EXPECT_EQ(r.exceptions.rip, code);
            }
        }
        combinations(4);
    });
}

TEST_F(IntrVirtual, svm_iret_exits_before_it_executes) {
    claim({.apm = "APM 2 15.9"}, [&] {
        Guest guest(host(), client::Plan{});
        guest.load(guest_iret);
        change(guest, vmcb::intercept_1, vmcb::iret);
        const auto r = guest.run({});
        expect_exit(r, Reason::iret, code);
        EXPECT_EQ(r.reply.exit.raw_reason, exit_iret);
        EXPECT_EQ(r.reply.state.gpr[abi::rsp], guest.state.gpr[abi::rsp]) << "nothing is popped";
    });
}

TEST_F(IntrVirtual, svm_clgi_and_stgi_exit_when_intercepted) {
    claim({.apm = "APM 2 15.17"}, [&] {
        for (const auto& [what, raw] : {std::pair{guest_clgi, exit_clgi}, {guest_stgi, exit_stgi}}) {
            Guest guest(host(), client::Plan{});
            guest.load(what);
            change(guest, vmcb::intercept_2, vmcb::clgi | vmcb::stgi);
            const auto r = guest.run({});
            expect_exit(r, Reason::vm_instruction, code);
            EXPECT_EQ(r.reply.exit.raw_reason, raw);
        }
        combinations(2);
    });
}

TEST_F(IntrVirtual, svm_virtual_gif_is_the_guests_without_exits) {
    claim({.apm = "APM 2 15.33.2"}, [&] {
        if (no_vgif()) {
            GTEST_SKIP() << "no virtual GIF: CPUID.8000000AH:EDX[16] is 0";
        }
        for (const bool before : {false, true}) {
            for (const bool after : {false, true}) {
                SCOPED_TRACE(testing::Message() << "V_GIF " << before << " to " << after);
                Guest guest(host(), client::Plan{});
                guest.load(after ? guest_gif_on : guest_gif_off);
                change(guest, vmcb::intercept_2, 0, vmcb::clgi | vmcb::stgi);
                control(guest, vmcb::v_gif_enable | (before ? vmcb::v_gif : 0) | vmcb::v_intr_masking);
                const auto r = guest.run({});
                expect_stopped(r);
                EXPECT_EQ(r.exceptions.count, 0u);
                EXPECT_EQ(control_left(guest) & vmcb::v_gif, after ? vmcb::v_gif : 0);
            }
        }
        combinations(4);
    });
}

TEST_F(IntrVirtual, svm_virtual_interrupt_waits_for_virtual_gif) {
    claim({.apm = "APM 2 15.33.2, 15.21.4"}, [&] {
        if (no_vgif()) {
            GTEST_SKIP() << "no virtual GIF: CPUID.8000000AH:EDX[16] is 0";
        }
        struct Case {
            client::GuestCode code;
            u64 flags, gif, at;
        };
        const std::vector<Case> cases{
            {guest_some_nops, 2 | rflags_if, vmcb::v_gif, 0},
            {guest_some_nops, 2 | rflags_if, 0, Opening::never},
            {guest_gif_off_on, 2, vmcb::v_gif, guest_gif_off_on_end.size()},
        };
        for (const Case& c : cases) {
            SCOPED_TRACE(testing::Message() << "V_GIF " << (c.gif != 0) << ", RFLAGS " << c.flags);
            Guest guest(host(), client::Plan{});
            guest.state.rflags = c.flags;
            guest.load(c.code);
            change(guest, vmcb::intercept_2, 0, vmcb::clgi | vmcb::stgi);
            control(guest, pending | vmcb::v_gif_enable | c.gif | vmcb::v_intr_masking);
            const auto r = guest.run({});
            if (c.at == Opening::never) {
                expect_held(guest, r);
            } else {
                expect_taken(guest, r, code + c.at);
            }
        }
        combinations(cases.size());
    });
}

} // namespace refhv::front
