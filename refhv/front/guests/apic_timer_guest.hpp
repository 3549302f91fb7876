// SPDX-License-Identifier: MIT
// Pieces of guest code that use the local APIC's timer (SDM 3A 11.5.4, APM 2 16.4.1), on a machine whose APIC
// the guest has to itself: in xAPIC and in x2APIC mode.
#pragma once

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/session.hpp"

// clang-format off
// Mode native: the page-table entry of layout::arena leads to the APIC's page. Clobbers RAX, RCX, RDX.
#define REFHV_MAP_APIC                                                                                       \
    "mov $0x1b, %ecx\n rdmsr\n"                                                                              \
    "and $0xfffff000, %eax\n or $0x7b, %eax\n" /* P, W, PWT, PCD, A, D */                                    \
    "mov %eax, " REFHV_ASM(REFHV_ARENA_ENTRY) "\n mov %edx, " REFHV_ASM(REFHV_ARENA_ENTRY) "+4\n"            \
    "invlpg " REFHV_ASM(REFHV_ARENA) "\n"

// R14 := layout::arena, where the APIC's page is mapped; 0 in x2APIC mode. Clobbers RAX, RCX, RDX.
#define REFHV_FIND_APIC                                                                                      \
    "mov $0x1b, %ecx\n rdmsr\n mov $" REFHV_ASM(REFHV_ARENA) ", %r14d\n"                                    \
    "bt $10, %eax\n jnc 90f\n xor %r14d, %r14d\n 90:\n"

// EAX into the register at this offset of the xAPIC's page. Clobbers RCX, RDX.
#define REFHV_WRITE_APIC(offset)                                                                             \
    "test %r14d, %r14d\n jz 91f\n mov %eax, " #offset "(%r14)\n jmp 92f\n"                                   \
    "91: mov $0x800+" #offset "/16, %ecx\n xor %edx, %edx\n wrmsr\n 92: mfence\n"
#define REFHV_READ_APIC(offset)                                                                              \
    "test %r14d, %r14d\n jz 91f\n mov " #offset "(%r14), %eax\n jmp 92f\n"                                   \
    "91: mov $0x800+" #offset "/16, %ecx\n rdmsr\n 92:\n"

#define REFHV_TIMER_VECTOR 0x40
#define REFHV_LVT_DEADLINE 0x40040 // TSC-deadline mode (bits 18:17 = 10), that vector
#define REFHV_LVT_ONE_SHOT 0x40
#define REFHV_LVT_MASKED 0x10040
#define REFHV_TIMER_TO_ONE_SHOT /* of the undivided clock */                                                 \
    "mov $0xb, %eax\n" REFHV_WRITE_APIC(0x3e0)                                                               \
    "mov $" REFHV_ASM(REFHV_LVT_ONE_SHOT) ", %eax\n" REFHV_WRITE_APIC(0x320)
#define REFHV_MASK_TIMER "mov $" REFHV_ASM(REFHV_LVT_MASKED) ", %eax\n" REFHV_WRITE_APIC(0x320)
#define REFHV_TIMER_TO_DEADLINE_MODE                                                                         \
    "mov $" REFHV_ASM(REFHV_LVT_DEADLINE) ", %eax\n" REFHV_WRITE_APIC(0x320)
#define REFHV_END_OF_INTERRUPT "xor %eax, %eax\n" REFHV_WRITE_APIC(0xb0)

// RAX into IA32_TSC_DEADLINE. Clobbers RCX, RDX.
#define REFHV_ARM_DEADLINE "mov %rax, %rdx\n shr $32, %rdx\n mov $0x6e0, %ecx\n wrmsr\n"
#define REFHV_TSC_IN_RAX "lfence\n rdtsc\n lfence\n shl $32, %rdx\n or %rdx, %rax\n"
// clang-format on

namespace refhv::front {

// Why there is no such timer for a guest to use; empty: there is.
[[nodiscard]] inline std::string no_apic_timer(const client::HelloInfo& hello) {
    if (hello.fixed.platform != static_cast<u16>(abi::Platform::image)) {
        return "the local APIC's timer belongs to the system that runs here";
    }
    return (cpuid(hello, 1, 0, 3) >> 9 & 1) != 0 ? "" : "no local APIC: CPUID.01H:EDX[9] is 0";
}
[[nodiscard]] inline std::string no_tsc_deadline(const client::HelloInfo& hello) {
    const bool offered = (cpuid(hello, 1, 0, 2) >> 24 & 1) != 0;
    return offered ? no_apic_timer(hello) : "no TSC-deadline mode: CPUID.01H:ECX[24] is 0";
}

// Has REFHV_TIMER_VECTOR taken by `handler`, at layout::handler.
inline void take_timer(client::Guest& guest, client::GuestCode handler) {
    namespace layout = client::layout;
    guest.gate(REFHV_TIMER_VECTOR, layout::handler);
    guest.write(layout::handler, handler.bytes());
}

GUEST(reads_apic_base, "mov $0x1b, %ecx\n rdmsr")

// Physical address of the APIC's page, by a guest in mode native.
[[nodiscard]] inline u64 apic_page(client::GuestHost& host) {
    client::Guest guest(host, {.mode = abi::Mode::native});
    guest.load(reads_apic_base);
    const auto r = guest.run({});
    constexpr u64 page_of = 0xffff'f000;
    return (r.reply.state.gpr[abi::rax] & page_of) | r.reply.state.gpr[abi::rdx] << 32;
}

// What becomes of the timer's interrupt under a guest in mode nested that has the APIC.
enum class Interrupts : u8 {
    direct, // no exit: through the guest's own IDT
    exit,   // an exit, and the core hands it on (Action::inject)
};

// For such a guest: give_apic() after construction, with apic_page() from before.
[[nodiscard]] inline client::Plan plan_with_apic(Interrupts interrupts) {
    client::Plan plan;
    if (interrupts == Interrupts::exit) {
        plan.policy.push_back({.reason = static_cast<u16>(abi::Reason::external_interrupt),
                               .action = static_cast<u8>(abi::Action::inject),
                               .length = 0,
                               .event = 0});
    }
    plan.arena_pages = 1;
    plan.msrs.push_back({.vm = 0, .msr = 0x1b, .read = 0, .write = 1, .zero = {}});
    // Deadline; EOI, LVT timer, counts, divider.
    for (const u32 msr : {0x6e0u, 0x80bu, 0x832u, 0x838u, 0x839u, 0x83eu}) {
        plan.msrs.push_back({.vm = 0, .msr = msr, .read = 0, .write = 0, .zero = {}});
    }
    return plan;
}
inline void give_apic(client::Guest& guest, u64 page, Interrupts interrupts) {
    const bool direct = interrupts == Interrupts::direct;
    const auto clear = [&](u32 field, u64 bits) {
        guest.field(field, 4, guest.read_field(field, 4) & ~(direct ? bits : 0));
    };
    if (Session::get().vendor() == abi::Vendor::vmx) {
        constexpr u32 pin_controls = 0x4000;
        constexpr u64 external_interrupt_exiting = 1, read_write_execute = 7; // memory type 0, UC
        clear(pin_controls, external_interrupt_exiting);
        guest.nested_entry(client::layout::arena, 1, page | read_write_execute, abi::nested_entry_raw);
    } else {
        constexpr u32 intercept_1 = 0x0c, interrupt_control = 0x60;
        constexpr u64 intr = 1, v_intr_masking = 1u << 24, uncached = 0x7f; // P, W, U, PWT, PCD, A, D
        clear(intercept_1, intr);
        clear(interrupt_control, v_intr_masking);
        guest.nested_entry(client::layout::arena, 1, page | uncached, abi::nested_entry_raw);
    }
}

} // namespace refhv::front
