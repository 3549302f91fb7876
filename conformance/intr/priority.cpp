// SPDX-License-Identifier: MIT
// VMX: what comes first of all that may be pending at one VM entry (SDM 3C 27.7, SDM 3A 6.9).
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_pending_nops, "nop\n nop\n nop")

constexpr u32 virtual_apic_address = 0x2012, apic_access_address = 0x2014, tpr_threshold_field = 0x401c,
              entry_interruption = 0x4016;
constexpr u64 pending_mtf = 1u << 31 | 7u << 8; // interruption type 7, vector 0 (SDM 3C 27.6.2)
constexpr u64 single_step = 1u << 14;           // BS of the pending debug exceptions
constexpr u32 debug_vector = 1;

// In the order in which they are due.
enum Pending : unsigned {
    tpr_below_threshold = 1u << 0,
    monitor_trap = 1u << 1,
    debug_trap = 1u << 2,
    timer = 1u << 3,
    nmi_window = 1u << 4,
    interrupt_window = 1u << 5,
};
constexpr unsigned all_pending = 63;
constexpr Reason reasons[] = {Reason::tpr_threshold,    Reason::monitor_trap, Reason::exception,
                              Reason::preemption_timer, Reason::nmi_window,   Reason::interrupt_window};
constexpr const char* missing[] = {"TPR shadow with virtualized APIC accesses",
                                   "the monitor trap flag",
                                   "",
                                   "the VMX-preemption timer",
                                   "virtual NMIs and NMI-window exiting",
                                   ""};

} // namespace

class IntrPriority : public Intr {
  protected:
    static bool offers_pending(unsigned which) {
        using namespace vmcs;
        switch (which) {
        case tpr_below_threshold:
            return offers(proc_controls, proc_tpr_shadow) && offers(secondary_controls, proc2_apic_accesses);
        case monitor_trap:
            return offers(proc_controls, proc_monitor_trap);
        case timer:
            return offers(pin_controls, pin_preemption_timer);
        case nmi_window:
            return offers(pin_controls, pin_virtual_nmis) && offers(proc_controls, proc_nmi_window);
        default:
            return true;
        }
    }

    // Everything of `set` at the guest's next entry. MTF through `mtf_control`, or as an injected event.
    static void make_pending(Guest& guest, unsigned set, u64 mtf_control = 0) {
        using namespace vmcs;
        const auto when = [&](unsigned which, u64 bits) { return (set & which) != 0 ? bits : 0; };
        change(guest, pin_controls, when(timer, pin_preemption_timer) | when(nmi_window, pin_virtual_nmis));
        change(guest, proc_controls,
               when(tpr_below_threshold, proc_tpr_shadow) | when(nmi_window, proc_nmi_window) |
                   when(interrupt_window, proc_interrupt_window) | mtf_control);
        if ((set & tpr_below_threshold) != 0) { // VTPR is 0
            guest.field(virtual_apic_address, 8, guest.host_physical(layout::arena));
            guest.field(apic_access_address, 8, guest.host_physical(layout::arena + page_size));
            change(guest, secondary_controls, proc2_apic_accesses);
            guest.field(tpr_threshold_field, 4, 1);
        }
        if ((set & monitor_trap) != 0) {
            guest.field(entry_interruption, 4, pending_mtf);
        }
        if ((set & debug_trap) != 0) {
            guest.field(pending_debug, 8, single_step);
        }
    }

    static client::Plan plan(u32 exceptions) {
        client::Plan p;
        p.arena_pages = 2;
        p.exceptions = exceptions;
        return p;
    }

    // Each subset of `from` with `always` in it: the first that is due is the exit, before any instruction.
    void expect_first(unsigned from, unsigned always) {
        u64 tried = 0;
        for (unsigned set = 1; set <= all_pending; ++set) {
            if ((set & ~from) != 0 || (set & always) != always) {
                continue;
            }
            const unsigned first = static_cast<unsigned>(__builtin_ctz(set));
            SCOPED_TRACE(testing::Message() << "pending " << set << ", bit " << first << " is due first");
            Guest guest(host(), plan(1u << debug_vector));
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_pending_nops);
            make_pending(guest, set);
            const auto r = guest.run({.preemption_timer = 0});
            expect_exit(r, reasons[first], layout::code);
            if (reasons[first] == Reason::exception) {
                EXPECT_EQ(r.reply.exit.vector, debug_vector);
                EXPECT_EQ(r.reply.exit.qualification & single_step, single_step);
            }
            EXPECT_EQ(r.exceptions.count, 0u);
            ++tried;
        }
        combinations(tried);
    }

    static unsigned offered(unsigned of) {
        unsigned out = 0;
        for (unsigned i = 0; i < std::size(reasons); ++i) {
            out |= (of & 1u << i) != 0 && offers_pending(1u << i) ? 1u << i : 0;
        }
        return out;
    }
};

TEST_F(IntrPriority, vmx_first_of_what_is_pending_at_entry) {
    claim({.sdm = "SDM 3C 26.2, 27.7.3 to 27.7.7; SDM 3A 6.9"}, [&] {
        const unsigned wanted = all_pending & ~(monitor_trap | tpr_below_threshold);
        const unsigned here = offered(wanted);
        if (here != wanted) { // what is missing leaves the smaller table
            RecordProperty("missing", missing[__builtin_ctz(wanted & ~here)]);
        }
        expect_first(here, 0);
    });
}

TEST_F(IntrPriority, vmx_tpr_below_threshold_goes_before_the_others) {
    claim({.sdm = "SDM 3C 27.7.7"}, [&] {
        if (!offers_pending(tpr_below_threshold)) {
            GTEST_SKIP() << "no " << missing[0];
        }
        expect_first(offered(all_pending & ~monitor_trap), tpr_below_threshold);
    });
}

// Neither IF nor the interruptibility state keeps it.
TEST_F(IntrPriority, vmx_tpr_below_threshold_is_blocked_by_nothing) {
    claim({.sdm = "SDM 3C 27.7.7"}, [&] {
        if (!offers_pending(tpr_below_threshold)) {
            GTEST_SKIP() << "no " << missing[0];
        }
        struct Block {
            u64 flags, blocking;
        };
        const std::vector<Block> blocks{{2, 0},
                                        {2 | rflags_if, vmcs::blocking_by_sti},
                                        {2, vmcs::blocking_by_mov_ss},
                                        {2, vmcs::blocking_by_nmi}};
        for (const Block& b : blocks) {
            SCOPED_TRACE(b.blocking);
            Guest guest(host(), plan(0));
            guest.state.rflags = b.flags;
            guest.load(guest_pending_nops);
            make_pending(guest, tpr_below_threshold);
            guest.field(vmcs::interruptibility, 4, b.blocking);
            expect_exit(guest.run({}), Reason::tpr_threshold, layout::code);
        }
        combinations(blocks.size());
    });
}

TEST_F(IntrPriority, vmx_tpr_below_threshold_ends_an_entry_into_hlt) {
    claim({.sdm = "SDM 3C 27.7.7"}, [&] {
        constexpr u32 vmx_misc = 0x485;
        if (!offers_pending(tpr_below_threshold) || (msr(hello(), vmx_misc) >> 6 & 1) == 0) {
            GTEST_SKIP() << "no " << missing[0] << ", or no activity state HLT (IA32_VMX_MISC[6])";
        }
        Guest guest(host(), plan(0));
        guest.load(guest_pending_nops);
        make_pending(guest,
                     offered(tpr_below_threshold | timer)); // the timer, so that a wait that goes on ends
        guest.field(vmcs::activity, 4, 1);
        expect_exit(guest.run({.preemption_timer = 100'000}), Reason::tpr_threshold, layout::code);
    });
}

TEST_F(IntrPriority, vmx_uncaught_debug_trap_is_delivered_before_the_timer_exits) {
    claim({.sdm = "SDM 3C 27.7.3, 27.7.4"}, [&] {
        if (!offers_pending(timer)) {
            GTEST_SKIP() << "no " << missing[3];
        }
        Guest guest(host(), plan(0));
        guest.load(guest_pending_nops);
        make_pending(guest, debug_trap | timer);
        const auto r = guest.run({.preemption_timer = 0});
        expect_exit(r, Reason::preemption_timer, layout::vectors + 16 * debug_vector);
        EXPECT_EQ(r.exceptions.count, 0u) << "the handler has not begun";
    });
}

TEST_F(IntrPriority, vmx_injected_event_is_delivered_before_anything_exits) {
    claim({.sdm = "SDM 3C 27.7.4 to 27.7.7"}, [&] {
        u64 tried = 0;
        const std::vector<Event> events{{.type = EventType::hardware_exception, .vector = 6},
                                        {.type = EventType::external_interrupt, .vector = free_vector}};
        for (const unsigned which : {tpr_below_threshold, timer, nmi_window}) {
            for (const Event& e : events) {
                if (!offers_pending(which)) {
                    continue;
                }
                SCOPED_TRACE(testing::Message() << to_string(e) << " before " << which);
                Guest guest(host(), plan(0));
                guest.state.rflags = 2 | rflags_if;
                guest.load(guest_pending_nops);
                make_pending(guest, which);
                inject(guest, e);
                const auto r = guest.run({.preemption_timer = 0});
                expect_exit(r, reasons[__builtin_ctz(which)], layout::vectors + 16 * e.vector);
                EXPECT_EQ(r.exceptions.count, 0u) << "the handler has not begun";
                ++tried;
            }
        }
        if (tried == 0) {
            GTEST_SKIP() << "no " << missing[0] << ", no " << missing[3] << ", no " << missing[4];
        }
        combinations(tried);
    });
}

TEST_F(IntrPriority, vmx_monitor_trap_flag_exits_behind_one_instruction_or_an_injected_event) {
    claim({.sdm = "SDM 3C 26.5.2"}, [&] {
        if (!offers_pending(monitor_trap)) {
            GTEST_SKIP() << "no " << missing[1];
        }
        for (const bool injects : {false, true}) {
            SCOPED_TRACE(injects);
            Guest guest(host(), plan(0));
            guest.load(guest_pending_nops);
            make_pending(guest, 0, vmcs::proc_monitor_trap);
            if (injects) {
                inject(guest, {.type = EventType::hardware_exception, .vector = 6});
            }
            expect_exit(guest.run({}), Reason::monitor_trap,
                        injects ? layout::vectors + 16 * 6 : layout::code + 1);
        }
        combinations(2);
    });
}

// It is not pending before the first instruction, but behind an injected event it is, and then goes first.
TEST_F(IntrPriority, vmx_monitor_trap_flag_against_timer_and_nmi_window) {
    claim({.sdm = "SDM 3C 26.5.2, 27.7.4, 27.7.6, 27.7.8"}, [&] {
        const unsigned rivals = offered(timer | nmi_window);
        if (!offers_pending(monitor_trap) || rivals == 0) {
            GTEST_SKIP() << "no " << missing[1] << ", or nothing beside it";
        }
        u64 tried = 0;
        for (const bool injects : {false, true}) {
            for (const unsigned rival : {timer, nmi_window}) {
                if ((rivals & rival) == 0) {
                    continue;
                }
                SCOPED_TRACE(testing::Message() << "injecting " << injects << ", rival " << rival);
                Guest guest(host(), plan(0));
                guest.load(guest_pending_nops);
                make_pending(guest, rival, vmcs::proc_monitor_trap);
                if (injects) {
                    inject(guest, {.type = EventType::hardware_exception, .vector = 6});
                }
                expect_exit(guest.run({.preemption_timer = 0}),
                            injects ? Reason::monitor_trap : reasons[__builtin_ctz(rival)],
                            injects ? layout::vectors + 16 * 6 : layout::code);
                ++tried;
            }
        }
        combinations(tried);
    });
}

// Last of the file: an emulator may not know interruption type 7.
TEST_F(IntrPriority, vmx_pending_monitor_trap_goes_behind_tpr_and_before_the_others) {
    claim({.sdm = "SDM 3C 27.6.2, 27.7.8"}, [&] {
        if (!offers_pending(monitor_trap)) {
            GTEST_SKIP() << "no " << missing[1];
        }
        expect_first(offered(all_pending), monitor_trap);
    });
}

} // namespace refhv::front
