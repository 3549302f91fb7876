// SPDX-License-Identifier: MIT
// VMX: entries into the activity states HLT and shutdown, one row a thing that may end them: what does, what
// does not, and what the exit says of the state that it ended (SDM 3C 27.7, 28.1, 28.3.4). Whatever nothing
// ends, the preemption timer does, which counts in both.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_idle_nops, "nop\n nop\n nop")

constexpr u32 vmx_misc = 0x485, virtual_apic_address = 0x2012, apic_access_address = 0x2014,
              tpr_threshold_field = 0x401c;
constexpr u64 active = 0, hlt = 1, shutdown = 2;
constexpr u64 pending_mtf = 1u << 31 | 7u << 8; // interruption type 7, vector 0 (SDM 3C 27.6.2)
constexpr u64 enabled_breakpoint = 1u << 12, single_step = 1u << 14, rflags_tf = 1u << 8;
constexpr u32 patience = 2'000; // units of the preemption timer

struct Idle {
    const char* what;
    u64 state;
    Reason due; // of the exit
    u64 flags = 2;
    u64 blocking = 0;
    u64 proc = 0; // primary processor-based controls
    u64 pin = 0;
    bool tpr = false; // the TPR is below its threshold
    u64 event = 0;    // VM-entry interruption information
    u64 debug = 0;    // pending debug exceptions
};

constexpr u64 window = vmcs::proc_interrupt_window, nmi_window = vmcs::proc_nmi_window,
              trap = vmcs::proc_monitor_trap, virtual_nmis = vmcs::pin_virtual_nmis, on = 2 | 1u << 9;

// What HLT does not block ends it; an interrupt window does, too, which has a claim of its own
// (IntrWaiting.vmx_interrupt_window_ends_an_entry_into_hlt).
const std::vector<Idle> hlt_rows{
    {"nothing pending", hlt, Reason::preemption_timer, on},
    {"interrupt window, IF = 0", hlt, Reason::preemption_timer, 2, 0, window},
    {"NMI window", hlt, Reason::nmi_window, 2, 0, nmi_window, virtual_nmis},
    {"NMI window, IF = 1", hlt, Reason::nmi_window, on, 0, nmi_window, virtual_nmis},
    {"both windows", hlt, Reason::nmi_window, on, 0, window | nmi_window, virtual_nmis},
    {"TPR below its threshold", hlt, Reason::tpr_threshold, 2, 0, 0, 0, true},
    {"TPR below its threshold, both windows", hlt, Reason::tpr_threshold, on, 0, window | nmi_window,
     virtual_nmis, true},
    {"pending MTF exit", hlt, Reason::monitor_trap, 2, 0, 0, 0, false, pending_mtf},
    {"pending MTF exit, both windows", hlt, Reason::monitor_trap, on, 0, window | nmi_window, virtual_nmis,
     false, pending_mtf},
    {"single step pending", hlt, Reason::exception, 2 | rflags_tf, 0, 0, 0, false, 0, single_step},
    {"breakpoint pending, both windows", hlt, Reason::exception, on, 0, window | nmi_window, virtual_nmis,
     false, 0, enabled_breakpoint | 1},
    {"NMI window, NMIs blocked", hlt, Reason::preemption_timer, 2, vmcs::blocking_by_nmi, nmi_window,
     virtual_nmis},
};

const std::vector<Idle> shutdown_rows{
    {"nothing pending", shutdown, Reason::preemption_timer, on},
    {"interrupt window", shutdown, Reason::preemption_timer, on, 0, window},
    {"interrupt window, IF = 0", shutdown, Reason::preemption_timer, 2, 0, window},
    {"NMI window", shutdown, Reason::nmi_window, 2, 0, nmi_window, virtual_nmis},
    {"both windows", shutdown, Reason::nmi_window, on, 0, window | nmi_window, virtual_nmis},
    {"monitor trap flag", shutdown, Reason::preemption_timer, 2, 0, trap},
    {"NMI window, NMIs blocked", shutdown, Reason::preemption_timer, 2, vmcs::blocking_by_nmi, nmi_window,
     virtual_nmis},
};

// That it ends an active guest is the premise.
const std::vector<Idle> shutdown_holds_back{
    {"TPR below its threshold", shutdown, Reason::preemption_timer, 2, 0, 0, 0, true},
    {"single step pending", shutdown, Reason::preemption_timer, 2 | rflags_tf, 0, 0, 0, false, 0,
     single_step},
    {"breakpoint pending", shutdown, Reason::preemption_timer, 2, 0, 0, 0, false, 0, enabled_breakpoint | 1},
};

} // namespace

class IntrActivity : public Intr {
  protected:
    static bool may_be(u64 state) {
        return state == active || (msr(hello(), vmx_misc) >> (5 + state) & 1) != 0;
    }
    static bool no_timer() { return !offers(vmcs::pin_controls, vmcs::pin_preemption_timer); }
    static bool may_have(const Idle& row) {
        return may_be(row.state) && (row.pin == 0 || offers(vmcs::pin_controls, row.pin)) &&
               (row.proc == 0 || offers(vmcs::proc_controls, row.proc)) &&
               (row.event != pending_mtf || offers(vmcs::proc_controls, vmcs::proc_monitor_trap)) &&
               (!row.tpr || (offers(vmcs::proc_controls, vmcs::proc_tpr_shadow) &&
                             offers(vmcs::secondary_controls, vmcs::proc2_apic_accesses)));
    }
    static client::Plan plan() {
        client::Plan p;
        p.arena_pages = 2;
        p.exceptions = 1u << 1; // #DB
        return p;
    }
    static void prepare(Guest& guest, const Idle& row, u64 state) {
        using namespace vmcs;
        guest.state.rflags = row.flags;
        guest.load(guest_idle_nops);
        guest.field(activity, 4, state);
        guest.field(interruptibility, 4, row.blocking);
        change(guest, pin_controls, row.pin | pin_preemption_timer);
        change(guest, proc_controls, row.proc | (row.tpr ? proc_tpr_shadow : 0));
        if (row.tpr) { // VTPR is 0
            guest.field(virtual_apic_address, 8, guest.host_physical(layout::arena));
            guest.field(apic_access_address, 8, guest.host_physical(layout::arena + page_size));
            change(guest, secondary_controls, proc2_apic_accesses);
            guest.field(tpr_threshold_field, 4, 1);
        }
        if (row.event != 0) {
            guest.field(entry_interruption_info, 4, row.event);
        }
        if (row.debug != 0) {
            guest.field(pending_debug, 8, row.debug);
        }
    }

    // Each row that the CPU offers, as run() has it.
    template <class Run>
    static void each(const std::vector<Idle>& rows, Run run) {
        needs(abi::Permit::deaf_guests);
        if (no_timer() || !may_be(rows.front().state)) {
            GTEST_SKIP() << "no such activity state (IA32_VMX_MISC[" << 5 + rows.front().state
                         << "]), or no VMX-preemption timer to end what nothing else ends";
        }
        u64 tried = 0;
        for (const Idle& row : rows) {
            if (!may_have(row)) {
                continue;
            }
            SCOPED_TRACE(row.what);
            run(row);
            if ((row.blocking & vmcs::blocking_by_nmi) != 0) {
                end_nmi_blocking();
            }
            ++tried;
        }
        combinations(tried);
    }

    static void hold(const std::vector<Idle>& rows, bool ends_the_active) {
        each(rows, [&](const Idle& row) {
            Guest guest(host(), plan());
            prepare(guest, row, row.state);
            const auto r = guest.run({.preemption_timer = patience});
            expect_exit(r, row.due, layout::code);
            if (row.state == hlt) {
                EXPECT_EQ(r.reply.state.rflags, row.flags) << "RFLAGS";
            }
            EXPECT_EQ(r.reply.entries, 1u);
            if (ends_the_active) {
                Guest awake(host(), plan());
                prepare(awake, row, active);
                EXPECT_NE(static_cast<Reason>(awake.run({.preemption_timer = patience}).reply.exit.reason),
                          Reason::preemption_timer)
                    << "nothing was pending";
            }
        });
    }

    static void hold_saved(const std::vector<Idle>& rows) {
        each(rows, [&](const Idle& row) {
            Guest guest(host(), plan());
            prepare(guest, row, row.state);
            const auto r = guest.run({.preemption_timer = patience});
            EXPECT_EQ(r.reply.state.rip, layout::code);
            const Guest::FieldOf fields[] = {{vmcs::activity, 4}, {vmcs::interruptibility, 4}};
            const auto saved = guest.read_fields(fields);
            EXPECT_EQ(saved[0], row.state) << "activity state";
            EXPECT_EQ(saved[1], row.blocking) << "interruptibility";
        });
    }
};

// Behind such an exit the guest has executed nothing.
TEST_F(IntrActivity, vmx_hlt_ends_by_what_it_does_not_block) {
    claim({.sdm = "SDM 3C 26.2, 26.5.1, 27.7.2 to 27.7.8"}, [&] { hold(hlt_rows, false); });
}

TEST_F(IntrActivity, vmx_shutdown_ends_by_the_nmi_window_and_the_timer) {
    claim({.sdm = "SDM 3C 26.2, 26.5.1, 27.7.2, 27.7.5, 27.7.6, 28.1"}, [&] { hold(shutdown_rows, false); });
}

TEST_F(IntrActivity, vmx_shutdown_holds_back_tpr_and_debug_exceptions) {
    claim({.sdm = "SDM 3C 27.7.3, 27.7.7"}, [&] { hold(shutdown_holds_back, true); });
}

// The state that ended is what is saved, for the CPU is active only behind the exit.
TEST_F(IntrActivity, vmx_exits_out_of_hlt_save_it) {
    claim({.sdm = "SDM 3C 28.1, 28.3.4"}, [&] { hold_saved(hlt_rows); });
}

TEST_F(IntrActivity, vmx_exits_out_of_shutdown_save_it) {
    claim({.sdm = "SDM 3C 28.1, 28.3.4"}, [&] { hold_saved(shutdown_rows); });
}

// Each event that may be injected there (SDM 3C 27.3.1.5): its delivery leaves the state.
TEST_F(IntrActivity, vmx_injected_events_end_the_state_that_the_field_has) {
    claim({.sdm = "SDM 3C 27.6.1, 27.7.2"}, [&] {
        needs(abi::Permit::deaf_guests);
        struct Row {
            u64 state;
            Event event;
        };
        const Event interrupt{.type = EventType::external_interrupt, .vector = free_vector},
            nmi{.type = EventType::nmi, .vector = 2},
            trap_1{.type = EventType::hardware_exception, .vector = 1},
            machine_check{.type = EventType::hardware_exception, .vector = 18};
        u64 tried = 0;
        for (const Row& row : {Row{hlt, interrupt}, Row{hlt, nmi}, Row{hlt, trap_1}, Row{hlt, machine_check},
                               Row{shutdown, nmi}, Row{shutdown, machine_check}}) {
            if (!may_be(row.state)) {
                continue;
            }
            SCOPED_TRACE(testing::Message() << to_string(row.event) << " into state " << row.state);
            client::Plan p;
            p.stop = client::Stop::port;
            Guest guest(host(), p);
            guest.state.rflags = on;
            guest.load(guest_idle_nops);
            guest.field(vmcs::activity, 4, row.state);
            if (!no_timer()) {
                change(guest, vmcs::pin_controls, vmcs::pin_preemption_timer);
            }
            inject(guest, row.event);
            const auto r = guest.run({.preemption_timer = 50 * patience});
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::io_out) << "the stop stub";
            EXPECT_EQ(r.reply.entries, 1u);
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, row.event.vector);
            EXPECT_EQ(r.exceptions.rip, layout::code);
            EXPECT_EQ(guest.read_field(vmcs::activity, 4, false), active);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            ++tried;
        }
        if (tried == 0) {
            GTEST_SKIP() << "no inactive state: IA32_VMX_MISC[8:6]";
        }
        combinations(tried);
    });
}

} // namespace refhv::front
