// SPDX-License-Identifier: MIT
#include "conformance/inject/case.hpp"

#include "refhv/front/controls.hpp"

namespace refhv::front {

using client::Guest;

namespace {

GUEST(guest_nop, "nop")

constexpr u64 valid = 1u << 31, deliver_error = 1u << 11;

} // namespace

std::string to_string(const Event& e) {
    constexpr const char* names[] = {"external interrupt", "NMI", "hardware exception", "INT n",
                                     "INT3 or INTO",       "INT1"};
    return std::string(names[static_cast<unsigned>(e.type)]) + ' ' + std::to_string(e.vector) +
           (e.has_error ? ", error code " + std::to_string(e.error) : "");
}

u64 Inject::encode(const Event& e) {
    constexpr u64 types[] = {0, 2, 3, 4, 6, 5};
    return e.vector | types[static_cast<unsigned>(e.type)] << 8 | (e.has_error ? deliver_error : 0) | valid |
           (on_svm() ? u64{e.error} << 32 : 0);
}

void Inject::inject(Guest& guest, const Event& e) {
    if (on_svm()) {
        guest.field(vmcb::event_injection, 8, encode(e));
        return;
    }
    guest.field(vmcs::entry_exception_error, 4, e.error);
    guest.field(vmcs::entry_length, 4, e.length);
    guest.field(vmcs::entry_interruption_info, 4, encode(e));
}

client::RunResult Inject::run_with(const Event& event, u64 rflags) {
    Guest guest(host(), client::Plan{});
    guest.state.rflags = rflags;
    guest.load(guest_nop);
    inject(guest, event);
    return guest.run({});
}

void Inject::expect_delivered(const Event& e, const client::RunResult& r) {
    SCOPED_TRACE(to_string(e));
    ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
    EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
    EXPECT_EQ(r.reply.entries, 1u) << "the event costs no exit";
    EXPECT_EQ(r.exceptions.count, 1u);
    EXPECT_EQ(r.exceptions.vector, e.vector);
    EXPECT_EQ(r.exceptions.error, e.error);
    EXPECT_EQ(r.exceptions.rip, client::layout::code + e.length) << "the instruction that it came before";
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

std::vector<Event> Inject::exceptions() {
    std::vector<Event> out;
    for (const u8 vector : {0, 1, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19}) {
        if (vector == 5 && on_svm()) {
            continue; // BOUND is not legal in 64-bit code; APM 2 15.20 leaves open whether #BR is then an
                      // exception
        }
        const bool error = pushes_error(vector);
        // A double fault's error code is 0; the others are told from it and from each other.
        out.push_back({.type = EventType::hardware_exception,
                       .vector = vector,
                       .has_error = error,
                       .error = error && vector != 8 ? 0x100u + vector : 0});
    }
    return out;
}

std::vector<Event> Inject::all_events() {
    auto events = exceptions();
    events.push_back({.type = EventType::external_interrupt, .vector = free_vector});
    events.push_back({.type = EventType::nmi, .vector = 2});
    if (on_vmx()) {
        events.push_back({.type = EventType::software_interrupt, .vector = free_vector, .length = 2});
        events.push_back({.type = EventType::software_exception, .vector = 3, .length = 1});
        events.push_back({.type = EventType::software_exception, .vector = 4, .length = 1});
        events.push_back({.type = EventType::privileged_software, .vector = 1, .length = 1});
    }
    return events;
}

std::vector<Event> Inject::benign_events() {
    auto events = all_events();
    std::erase_if(events, [](const Event& e) {
        return e.type == EventType::hardware_exception &&
               (e.vector == 0 || (e.vector >= 8 && e.vector <= 14) || e.vector == 18);
    });
    return events;
}

void Inject::meet_missing_gate(Guest& guest, const Event& e) {
    constexpr u64 interrupt_gate = 0x0e00; // without P
    constexpr u64 gate[2] = {u64{client::layout::code64} << 16 | interrupt_gate << 32, 0};
    guest.write(client::layout::idt + 16 * e.vector, {reinterpret_cast<const u8*>(gate), sizeof gate});
    inject(guest, e);
}

u32 Inject::missing_gate_error(const Event& e) {
    constexpr u32 external = 1, in_idt = 2;
    const bool software = e.type == EventType::software_interrupt || e.type == EventType::software_exception;
    return u32{e.vector} * 8 | in_idt | (software ? 0 : external);
}

} // namespace refhv::front
