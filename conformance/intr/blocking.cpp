// SPDX-License-Identifier: MIT
// SVM: what holds an event back and what does not, as tables: injected events against everything that blocks
// virtual interrupts, and the window of the VINTR intercept against the task priority.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

GUEST(guest_blocked_nops, "nop\n nop\n nop")
GUEST(guest_unblocks, "sti\n nop\n nop")
GUEST(guest_unblocks_end, "sti\n nop")

constexpr u64 highest = 15;

} // namespace

class IntrBlocking : public Intr {
  protected:
    static bool no_vgif() { return (cpuid(hello(), 0x8000'000a, 0, 3) >> 16 & 1) == 0; }
};

TEST_F(IntrBlocking, svm_injected_events_are_held_back_by_nothing) {
    claim({.apm = "APM 2 15.20"}, [&] {
        const std::vector<Event> events{
            {.type = EventType::external_interrupt, .vector = free_vector},
            {.type = EventType::nmi, .vector = 2},
            {.type = EventType::hardware_exception, .vector = 6},
            {.type = EventType::hardware_exception, .vector = 13, .has_error = true, .error = 0x10d}};
        u64 tried = 0;
        for (const Event& e : events) {
            for (unsigned blocks = 0; blocks < 16; ++blocks) { // IF = 0, shadow, V_TPR, V_GIF = 0
                if ((blocks & 8) != 0 && no_vgif()) {
                    continue;
                }
                SCOPED_TRACE(testing::Message() << to_string(e) << ", blocks " << blocks);
                Guest guest(host(), client::Plan{});
                guest.state.rflags = 2 | ((blocks & 1) != 0 ? 0 : rflags_if);
                guest.state.interrupt_shadow = (blocks & 2) != 0 ? 1 : 0;
                guest.load(guest_blocked_nops);
                u64 control = vmcb::v_intr_masking | ((blocks & 4) != 0 ? highest : 0);
                if ((blocks & 8) != 0) {
                    control |= vmcb::v_gif_enable; // V_GIF stays 0
                }
                guest.field(vmcb::interrupt_control, 8, control);
                inject(guest, e);
                expect_delivered(e, guest.run({}));
                ++tried;
            }
        }
        combinations(tried);
    });
}

TEST_F(IntrBlocking, svm_vintr_intercept_exits_above_v_tpr) {
    claim({.apm = "APM 2 15.21.4, 15.21.6"}, [&] {
        u64 tried = 0;
        for (const u64 ignore : {u64{0}, vmcb::v_ign_tpr}) {
            for (const u64 priority : {0, 1, 7, 8, 15}) {
                for (const u64 tpr : {0, 1, 7, 8, 15}) {
                    SCOPED_TRACE(testing::Message() << "V_INTR_PRIO " << priority << ", V_TPR " << tpr
                                                    << ", V_IGN_TPR " << (ignore != 0));
                    Guest guest(host(), client::Plan{});
                    guest.load(guest_unblocks);
                    change(guest, vmcb::intercept_1, vmcb::vintr);
                    guest.field(vmcb::interrupt_control, 8,
                                vmcb::v_irq | vmcb::v_intr_prio(priority) | ignore | tpr |
                                    vmcb::v_intr_masking | vmcb::v_intr_vector(free_vector));
                    const auto r = guest.run({});
                    if (ignore != 0 || priority > tpr) {
                        expect_exit(r, Reason::interrupt_window, code + guest_unblocks_end.size());
                    } else {
                        expect_stopped(r);
                    }
                    EXPECT_EQ(r.exceptions.count, 0u);
                    ++tried;
                }
            }
        }
        combinations(tried);
    });
}

} // namespace refhv::front
