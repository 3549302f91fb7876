// SPDX-License-Identifier: MIT
// Faults that an event meets on its way through the IDT: every kind of event against every way to fail. The
// exit that a fault makes names it, with its address, and beside it the event; the error code names the gate
// or segment.
#include "conformance/inject/case.hpp"

#include <optional>

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

GUEST(guest_fault_nop, "nop")

constexpr u8 not_present = 11, stack_fault = 12, general_protection = 13, page_fault = 14;
constexpr u32 ext = 1, in_idt = 2;
constexpr u64 rflags_if = 1u << 9;
constexpr u8 present_gate = 0x8e; // 64-bit interrupt gate
constexpr u16 spare_selector = 7 * 8;
constexpr u64 ist1 = layout::tss + 0x24; // SDM 3A figure 8-11
constexpr u64 not_canonical = u64{1} << 62, unmapped_stack = REFHV_UNMAPPED + 0x1000;

struct Gate {
    u64 handler;
    u16 selector = layout::code64;
    u8 ist = 0;
    u8 attributes = present_gate;
};

void put64(Guest& guest, u64 gpa, u64 value) {
    guest.write(gpa, {reinterpret_cast<const u8*>(&value), sizeof value});
}
void put_gate(Guest& guest, u8 vector, const Gate& g) {
    put64(guest, layout::idt + 16 * vector,
          (g.handler & 0xffff) | u64{g.selector} << 16 | u64{g.ist} << 32 | u64{g.attributes} << 40 |
              (g.handler >> 16 & 0xffff) << 48);
    put64(guest, layout::idt + 16 * vector + 8, g.handler >> 32);
}
[[nodiscard]] u64 usual_handler(u8 vector) {
    return layout::vectors + 16 * vector;
}
void unmap(Guest& guest, u64 page) {
    put64(guest, layout::page_tables + 8 * ((page - layout::base) / page_size), 0);
}
// A GDT of one more descriptor, and the gate leads there.
void lead_through(Guest& guest, u8 vector, u64 descriptor) {
    put64(guest, layout::gdt + spare_selector, descriptor);
    guest.state.gdtr.limit = spare_selector + 7;
    put_gate(guest, vector, {.handler = usual_handler(vector), .selector = spare_selector});
}
void use_stack(Guest& guest, u8 vector, u64 top) {
    put64(guest, ist1, top);
    put_gate(guest, vector, {.handler = usual_handler(vector), .ist = 1});
}

struct Met {
    u8 vector;
    u32 error;                    // without EXT, which follows from the event
    std::optional<u64> address{}; // of #PF
    u32 open = 0;                 // bits of the error code that the manuals leave open
};

// What goes wrong: prepares it for this vector, and says what is due.
using Fault = Met (*)(Guest&, u8);

Met gate_of_no_type(Guest& guest, u8 vector) {
    put_gate(guest, vector, {.handler = usual_handler(vector), .attributes = 0x80});
    return {general_protection, vector * 8u | in_idt};
}
Met gate_not_present(Guest& guest, u8 vector) {
    put_gate(guest, vector, {.handler = usual_handler(vector), .attributes = present_gate & 0x7f});
    return {not_present, vector * 8u | in_idt};
}
Met gate_behind_the_limit(Guest& guest, u8 vector) {
    guest.state.idtr.limit = 16 * vector + 14;
    return {general_protection, vector * 8u | in_idt};
}
Met null_selector(Guest& guest, u8 vector) {
    put_gate(guest, vector, {.handler = usual_handler(vector), .selector = 0});
    return {general_protection, 0};
}
Met selector_behind_the_limit(Guest& guest, u8 vector) {
    put_gate(guest, vector, {.handler = usual_handler(vector), .selector = spare_selector});
    return {general_protection, spare_selector};
}
Met selector_of_data(Guest& guest, u8 vector) {
    put_gate(guest, vector, {.handler = usual_handler(vector), .selector = layout::data});
    return {general_protection, layout::data};
}
Met segment_not_present(Guest& guest, u8 vector) {
    lead_through(guest, vector, 0x00af'1b00'0000'ffff);
    return {not_present, spare_selector};
}
Met segment_of_32_bits(Guest& guest, u8 vector) {
    lead_through(guest, vector, 0x00cf'9b00'0000'ffff);
    return {general_protection, spare_selector};
}
Met handler_not_canonical(Guest& guest, u8 vector) {
    put_gate(guest, vector, {.handler = not_canonical});
    return {general_protection, 0};
}
Met stack_not_canonical(Guest& guest, u8 vector) {
    use_stack(guest, vector, not_canonical);
    return {stack_fault, 0, {}, 0xffff & ~ext}; // "#SS(EXT)" and "#SS(selector)" both stand in SDM 2A, INT n
}
Met stack_not_mapped(Guest& guest, u8 vector) {
    constexpr u32 write = 2;
    use_stack(guest, vector, unmapped_stack);
    return {page_fault, write, unmapped_stack - 8};
}
Met idt_not_mapped(Guest& guest, u8 vector) {
    unmap(guest, layout::idt);
    return {page_fault, 0, layout::idt + 16 * vector};
}
Met gdt_not_mapped(Guest& guest, u8) {
    unmap(guest, layout::gdt);
    return {page_fault, 0, layout::gdt + layout::code64};
}

} // namespace

class InjectFault : public Inject {
  protected:
    // On SVM what INT n pushes as RIP needs nRIP, which not every CPU has; here nothing is pushed.
    static std::vector<Event> every_event() {
        auto events = all_events();
        if (on_svm()) {
            events.push_back({.type = EventType::software_interrupt, .vector = free_vector, .length = 2});
        }
        return events;
    }
    static bool is_software(const Event& e) {
        return e.type == EventType::software_interrupt || e.type == EventType::software_exception;
    }

    // Injects the event; what it meets is intercepted if `stops`.
    static client::RunResult meet(const Event& e, Fault fault, bool stops, Met& due) {
        client::Plan plan;
        // The second fault is the one to see, whatever the two would make together.
        plan.exceptions =
            stops ? 1u << not_present | 1u << stack_fault | 1u << general_protection | 1u << page_fault : 0;
        Guest guest(host(), plan);
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_fault_nop);
        due = fault(guest, e.vector);
        inject(guest, e);
        return guest.run({});
    }

    void expect_named(Fault fault) {
        const auto events = every_event();
        for (const Event& e : events) {
            SCOPED_TRACE(to_string(e));
            Met due{};
            const auto r = meet(e, fault, true, due);
            ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::exception);
            EXPECT_EQ(r.reply.exit.vector, due.vector);
            if (due.address) {
                EXPECT_EQ(on_svm() ? r.reply.exit.info : r.reply.exit.qualification, *due.address);
            }
            constexpr u64 vector_type_error_valid = 0x8000'0fff;
            EXPECT_EQ(r.reply.exit.vectoring & vector_type_error_valid, encode(e) & vector_type_error_valid);
            if (e.has_error) {
                EXPECT_EQ(r.reply.exit.vectoring >> 32, e.error);
            }
            if (on_vmx() && e.length != 0) {
                EXPECT_EQ(r.reply.exit.instruction_length, e.length) << "of the instruction it stands for";
            }
            EXPECT_EQ(r.reply.state.rip, layout::code) << "where the event came";
            EXPECT_EQ(r.exceptions.count, 0u);
            EXPECT_EQ(r.reply.entries, 1u);
        }
        combinations(events.size());
    }

    // Events of every type, and one with an error code.
    static std::vector<Event> one_of_each_type() {
        auto events = every_event();
        std::erase_if(events, [](const Event& e) {
            return e.type == EventType::hardware_exception && e.vector != 6 && e.vector != general_protection;
        });
        return events;
    }

    void expect_error(const std::vector<Fault>& faults, u32 mask) {
        const auto events = one_of_each_type();
        for (usize i = 0; i < faults.size(); ++i) {
            for (const Event& e : events) {
                SCOPED_TRACE(testing::Message() << to_string(e) << ", fault " << i);
                Met due{};
                const auto r = meet(e, faults[i], true, due);
                ASSERT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::exception);
                const bool external = due.vector != page_fault && !is_software(e);
                const u32 seen = mask & ~due.open;
                EXPECT_EQ(r.reply.exit.interruption_error & seen, (due.error | (external ? ext : 0)) & seen);
            }
        }
        combinations(faults.size() * events.size());
    }
};

#define FAULT_CLAIM(fault)                                                                                   \
    TEST_F(InjectFault, fault##_is_told_with_the_event) {                                                    \
        claim({"SDM 3C 28.2.2, 28.2.4", "APM 2 15.7.2"}, [&] { expect_named(fault); });                      \
    }
FAULT_CLAIM(gate_of_no_type)
FAULT_CLAIM(gate_not_present)
FAULT_CLAIM(gate_behind_the_limit)
FAULT_CLAIM(null_selector)
FAULT_CLAIM(selector_behind_the_limit)
FAULT_CLAIM(selector_of_data)
FAULT_CLAIM(segment_not_present)
FAULT_CLAIM(segment_of_32_bits)
FAULT_CLAIM(handler_not_canonical)
FAULT_CLAIM(stack_not_canonical)
FAULT_CLAIM(stack_not_mapped)
FAULT_CLAIM(idt_not_mapped)
FAULT_CLAIM(gdt_not_mapped)

TEST_F(InjectFault, error_code_of_a_gate_names_its_vector) {
    claim({"SDM 3A 6.13", "APM 2 8.4.1"}, [&] {
        expect_error({gate_of_no_type, gate_not_present, gate_behind_the_limit}, 0xffff & ~ext);
    });
}
TEST_F(InjectFault, error_code_of_a_segment_names_its_selector) {
    claim({"SDM 3A 6.13", "APM 2 8.4.1"}, [&] {
        expect_error({null_selector, selector_behind_the_limit, selector_of_data, segment_not_present,
                      segment_of_32_bits, handler_not_canonical},
                     0xffff & ~ext);
    });
}
TEST_F(InjectFault, error_code_of_a_page_fault_is_the_access) {
    claim({"SDM 3A 6.15", "APM 2 8.4.2"}, [&] {
        expect_error({stack_not_mapped, idt_not_mapped, gdt_not_mapped}, 0xffff);
    });
}
TEST_F(InjectFault, error_code_tells_software_events_from_the_others) {
    claim({"SDM 3A 6.13", "APM 2 8.4.1"}, [&] {
        expect_error({gate_of_no_type, gate_not_present, null_selector, segment_not_present,
                      handler_not_canonical, stack_not_canonical},
                     ext);
    });
}

} // namespace refhv::front
