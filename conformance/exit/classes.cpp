// SPDX-License-Identifier: MIT
#include "conformance/exit/classes.hpp"

namespace refhv::front {

using abi::Intercept;
using abi::Reason;
using client::Guest;
using client::on;
namespace layout = client::layout;

namespace {

// VM-exit interruption information: valid, hardware or software exception, error code.
constexpr u32 hardware = 0x8000'0300, software = 0x8000'0600, with_error = 0x800;

ExitClass fault(const char* what, std::vector<u8> code, u32 vector, std::optional<u32> error = {}) {
    client::Plan plan;
    plan.exceptions = 1u << vector;
    return {.name = what,
            .code = std::move(code),
            .reason = Reason::exception,
            .rf = SavedRf::one,
            .length = 0,
            .plan = plan,
            .event = hardware | vector | (error ? with_error : 0),
            .error = error};
}

ExitClass instruction(const char* what, std::vector<u8> code, Reason reason, u64 intercepts) {
    client::Plan plan;
    plan.intercepts = intercepts;
    const u64 length = code.size();
    return {.name = what,
            .code = std::move(code),
            .reason = reason,
            .rf = SavedRf::zero,
            .length = length,
            .plan = plan};
}

client::Plan one_page() {
    client::Plan plan;
    plan.arena_pages = 1;
    return plan;
}

void deny_arena(Guest& guest) {
    guest.protect(layout::arena, 1, 0);
}

// mov (layout::arena), %eax
const std::vector<u8> load_arena{0x8b, 0x04, 0x25, 0x00, 0x00, 0x40, 0x40};
// mov %eax, (layout::arena)
const std::vector<u8> store_arena{0x89, 0x04, 0x25, 0x00, 0x00, 0x40, 0x40};
static_assert(layout::arena == 0x4040'0000);

std::vector<ExitClass> all_classes() {
    std::vector<ExitClass> out{
        instruction("cpuid", {0x0f, 0xa2}, Reason::cpuid, on(Intercept::cpuid)),
        instruction("hlt", {0xf4}, Reason::hlt, on(Intercept::hlt)),
        instruction("rdtsc", {0x0f, 0x31}, Reason::rdtsc, on(Intercept::rdtsc)),
        instruction("mov_from_cr3", {0x0f, 0x20, 0xd8}, Reason::cr3_read, on(Intercept::cr3_read)),
        instruction("mov_from_dr0", {0x0f, 0x21, 0xc0}, Reason::dr_read, on(Intercept::dr_read)),
        instruction("invlpg", {0x0f, 0x01, 0x3e}, Reason::invlpg, on(Intercept::invlpg)),
        instruction("pause", {0xf3, 0x90}, Reason::pause, on(Intercept::pause)),
        fault("divide_error", {0xf7, 0xf2}, 0), // div %edx, which is 0
        fault("invalid_opcode", {0x0f, 0x0b}, 6),
        fault("general_protection", {0x8a, 0x01}, 13, 0),                   // mov (%rcx), %al: not canonical
        fault("bad_selector", {0x8e, 0xe0}, 13, 0xfff8),                    // mov %eax, %fs
        fault("stack_fault", {0x41, 0x8e, 0xd0}, 12, absent_data),          // mov %r8d, %ss
        fault("page_fault_read", {0x8b, 0x04, 0x25, 0, 0, 0, 0x7f}, 14, 0), // mov REFHV_UNMAPPED, %eax
        fault("page_fault_write", {0x89, 0x04, 0x25, 0, 0, 0, 0x7f}, 14, 2),
    };
    ExitClass breakpoint = fault("int3", {0xcc}, 3);
    breakpoint.rf = SavedRf::zero;
    breakpoint.event = software | 3;
    breakpoint.length = 1;
    out.push_back(breakpoint);
    for (const bool store : {false, true}) {
        out.push_back({.name = store ? "nested_write" : "nested_read",
                       .code = store ? store_arena : load_arena,
                       .reason = Reason::nested_violation,
                       .rf = SavedRf::one,
                       .length = 0,
                       .plan = one_page(),
                       .prepare = deny_arena});
    }
    out.push_back({.name = "interrupt_window",
                   .code = {0x90},
                   .reason = Reason::interrupt_window,
                   .rf = SavedRf::as_before,
                   .length = 0,
                   .prepare =
                       [](Guest& guest) {
                           guest.state.rflags |= 1u << 9;
                           change(guest, vmcs::proc_controls, vmcs::proc_interrupt_window);
                       },
                   .changes_shadow = true});
    client::Plan timer;
    timer.intercepts = on(Intercept::preemption_timer);
    out.push_back({.name = "preemption_timer",
                   .code = {0x90},
                   .reason = Reason::preemption_timer,
                   .rf = SavedRf::as_before,
                   .length = 0,
                   .plan = timer,
                   .changes_shadow = true});
    out.push_back(
        {.name = "monitor_trap",
         .code = {0x90},
         .reason = Reason::monitor_trap,
         .rf = SavedRf::zero,
         .length = 0,
         .at = 1,
         .prepare =
             [](Guest& guest) {
                 if (!offers(Session::get().hello(), vmcs::proc_controls, vmcs::proc_monitor_trap)) {
                     throw client::Refused(abi::Op::intercept, abi::Outcome::unsupported,
                                           "no monitor trap flag");
                 }
                 change(guest, vmcs::proc_controls, vmcs::proc_monitor_trap);
             },
         .changes_shadow = true});
    return out;
}

} // namespace

const ExitClass& exit_class(std::string_view name) {
    static const std::vector<ExitClass> all = all_classes();
    for (const ExitClass& c : all) {
        if (c.name == name) {
            return c;
        }
    }
    throw std::out_of_range("no such class of exit: " + std::string(name));
}

} // namespace refhv::front
