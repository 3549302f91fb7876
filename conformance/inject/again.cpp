// SPDX-License-Identifier: MIT
// Events whose delivery failed: injected again from what the exit told of them; and two faults that make one.
#include "conformance/inject/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_again_nop, "nop")

constexpr u8 double_fault = 8, not_present = 11, page_fault = 14;
constexpr u64 rflags_if = 1u << 9;
constexpr u64 ist1 = layout::tss + 0x24; // SDM 3A figure 8-11
constexpr u64 unmapped_stack = REFHV_UNMAPPED + 0x1000;
constexpr u64 valid = 1u << 31, undefined = 1u << 12; // of the vectoring information

enum VmxField : u32 {
    entry_interruption_info = 0x4016,
    entry_exception_error = 0x4018,
    entry_length = 0x401a,
};
constexpr u32 vmcb_event_injection = 0xa8;

void put64(Guest& guest, u64 gpa, u64 value) {
    guest.write(gpa, {reinterpret_cast<const u8*>(&value), sizeof value});
}
// Its handler as it usually is, on a stack that no page table maps where `ist` is 1.
void put_gate(Guest& guest, u8 vector, u64 ist) {
    const u64 handler = layout::vectors + 16 * vector;
    put64(guest, layout::idt + 16 * vector, client::interrupt_gate(handler, ist)[0]);
}

// Classes of SDM 3A table 6-5 and APM 2 table 8-3.
enum class Class : u8 {
    benign,
    contributory,
    page_fault,
    double_fault,
};
[[nodiscard]] Class class_of(const Event& e) {
    if (e.type != EventType::hardware_exception) {
        return Class::benign;
    }
    return e.vector == double_fault                              ? Class::double_fault
           : e.vector == page_fault                              ? Class::page_fault
           : e.vector == 0 || (e.vector >= 10 && e.vector <= 13) ? Class::contributory
                                                                 : Class::benign;
}

} // namespace

class InjectAgain : public Inject {
  protected:
    static void inject_what_was_told(Guest& guest, const abi::Exit& told) {
        if (on_svm()) {
            guest.field(vmcb_event_injection, 8, told.vectoring);
            return;
        }
        guest.field(entry_exception_error, 4, told.vectoring >> 32);
        guest.field(entry_length, 4, told.instruction_length);
        guest.field(entry_interruption_info, 4, told.vectoring & 0xffff'ffff & ~undefined);
    }

    static client::RunResult meet(const Event& e, u32 intercepted, bool by_page_fault) {
        client::Plan plan;
        plan.exceptions = intercepted;
        Guest guest(host(), plan);
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_again_nop);
        if (by_page_fault) {
            put64(guest, ist1, unmapped_stack);
            put_gate(guest, e.vector, 1);
            inject(guest, e);
        } else {
            meet_missing_gate(guest, e);
        }
        return guest.run({});
    }
};

TEST_F(InjectAgain, vectoring_information_injected_is_the_same_event) {
    claim({"SDM 3C 25.9.3, 27.6.1, 28.2.4", "APM 2 15.7.2, 15.20"}, [&] {
        for (const Event& e : all_events()) {
            SCOPED_TRACE(to_string(e));
            client::Plan plan;
            plan.exceptions = 1u << not_present;
            Guest guest(host(), plan);
            guest.state.rflags = 2 | rflags_if;
            guest.load(guest_again_nop);
            meet_missing_gate(guest, e);
            const auto first = guest.run({});
            ASSERT_EQ(static_cast<Reason>(first.reply.exit.reason), Reason::exception);
            ASSERT_EQ(first.reply.exit.vectoring & valid, valid);
            put_gate(guest, e.vector, 0);
            inject_what_was_told(guest, first.reply.exit);
            const auto r = guest.run({.set_state = false});
            expect_delivered(e, r);
        }
        combinations(all_events().size());
    });
}

// What makes a double fault of contributory exceptions is Inject.contributory_exceptions_without_a_gate_...
TEST_F(InjectAgain, page_fault_on_the_stack_is_serial_or_a_double_fault) {
    claim({"SDM 3A 6.15", "APM 2 8.2.9"}, [&] {
        u64 tried = 0;
        for (const Event& e : all_events()) {
            const Class first = class_of(e);
            if (first == Class::double_fault) {
                continue;
            }
            SCOPED_TRACE(to_string(e));
            const auto r = meet(e, 0, true);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            if (first == Class::page_fault) { // its own gate is the one that fails
                EXPECT_EQ(r.exceptions.vector, double_fault);
                EXPECT_EQ(r.exceptions.error, 0u);
            } else {
                EXPECT_EQ(r.exceptions.vector, page_fault);
                EXPECT_EQ(r.exceptions.cr2, unmapped_stack - 8);
            }
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.rip, layout::code);
            ++tried;
        }
        combinations(tried);
    });
}

TEST_F(InjectAgain, missing_gate_of_a_benign_event_is_serial) {
    claim({"SDM 3A 6.15", "APM 2 8.2.9"}, [&] {
        u64 tried = 0;
        for (const Event& e : all_events()) {
            if (class_of(e) != Class::benign) {
                continue;
            }
            SCOPED_TRACE(to_string(e));
            const auto r = meet(e, 0, false);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(r.exceptions.count, 1u);
            EXPECT_EQ(r.exceptions.vector, not_present);
            EXPECT_EQ(r.exceptions.rip, layout::code);
            ++tried;
        }
        combinations(tried);
    });
}

// An exit that they cause directly is not one during the delivery of an event.
TEST_F(InjectAgain, vmx_double_and_triple_faults_name_no_event) {
    claim({.sdm = "SDM 3C 28.2.4"}, [&] {
        u64 tried = 0;
        for (const Event& e : all_events()) {
            const Class first = class_of(e);
            if (first == Class::benign) {
                continue;
            }
            SCOPED_TRACE(to_string(e));
            const auto r = meet(e, 1u << double_fault, false);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            if (first == Class::double_fault) {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::triple_fault);
            } else {
                EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::exception);
                EXPECT_EQ(r.reply.exit.vector, double_fault);
                EXPECT_EQ(r.reply.exit.interruption_error, 0u);
            }
            EXPECT_EQ(r.reply.exit.vectoring & valid, 0u);
            ++tried;
        }
        combinations(tried);
    });
}

// Last of the file: Bochs 2.7 does not survive it.
TEST_F(InjectAgain, failed_double_fault_is_a_triple_fault) {
    claim({"SDM 3A 6.15", "APM 2 8.2.9, 15.14.3"}, [&] {
        for (const bool by_page_fault : {false, true}) {
            const Event e{.type = EventType::hardware_exception, .vector = double_fault, .has_error = true};
            const auto r = meet(e, 0, by_page_fault);
            EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::triple_fault)
                << "the guest took vector " << r.exceptions.vector;
        }
        combinations(2);
    });
}

} // namespace refhv::front
