// SPDX-License-Identifier: MIT
#include "refhv/front/guests/ipi_sender.hpp"

#include "refhv/client/guest/guest.hpp"
#include "refhv/front/guests/avic.hpp"

namespace refhv::front {

using client::Guest;

namespace {

// For every interrupt a stamp, then a WRMSR of the ICR, to the APIC ID in R14, or stores to the APIC page, to
// APIC ID 1.
#define TO_SAMPLES "mov $" REFHV_ASM(REFHV_SAMPLES) ", %r13d\n"
#define STAMP_IT REFHV_STAMP "mov %eax, (%r13)\n mov %edx, 4(%r13)\n add $8, %r13\n"
#define BY_WRMSR "mov $0x830, %ecx\n" STAMP_IT "mov $0x51, %eax\n mov %r14d, %edx\n wrmsr\n"
GUEST(send, TO_SAMPLES "1: " BY_WRMSR "jmp 1b")
GUEST(send_and_exit, TO_SAMPLES "1: " BY_WRMSR "cpuid\n jmp 1b")
GUEST(send_by_store,
      TO_SAMPLES "mov $" REFHV_ASM(REFHV_APIC_ACCESS) ", %esi\n 1: movl $0x1000000, 0x310(%rsi)\n" STAMP_IT
                                                      "movl $0x51, 0x300(%rsi)\n cpuid\n jmp 1b")
static_assert(IpiSender::vector == 0x51);

client::Plan plan_of(abi::Reason reason, abi::Action action) {
    constexpr u8 length = 2; // of WRMSR and CPUID
    client::Plan plan;
    plan.arena_pages = apic::arena_pages;
    plan.policy = {{.reason = static_cast<u16>(reason),
                    .action = static_cast<u8>(action),
                    .length = length,
                    .event = 0}};
    return plan;
}

} // namespace

IpiSender::IpiSender(client::GuestHost& host, u32 apic_id)
    : IpiSender(host, plan_of(abi::Reason::wrmsr, abi::Action::emulate)) {
    guest_.load(send);
    guest_.state.gpr[abi::r14] = apic_id;
    static_cast<void>(guest_.settle(true));
}

IpiSender IpiSender::virtualized(client::GuestHost& host, u64 descriptor) {
    constexpr u64 table = apic::spare_page; // one target, virtual APIC ID 0
    IpiSender sender(host, plan_of(abi::Reason::cpuid, abi::Action::advance));
    Guest& guest = sender.guest_;
    guest.load(send_and_exit);
    guest.state.gpr[abi::r14] = 0;
    apic::virtualize_ipis(guest, table, 1);
    apic::point_to(guest, table, 0, descriptor);
    static_cast<void>(guest.settle(true));
    return sender;
}

IpiSender IpiSender::by_avic(client::GuestHost& host, u64 backing_page, u32 apic_id) {
    IpiSender sender(host, plan_of(abi::Reason::cpuid, abi::Action::advance));
    Guest& guest = sender.guest_;
    guest.load(send_by_store);
    avic::virtualize(guest, avic::enable);
    avic::add_target(guest, backing_page, apic_id);
    static_cast<void>(guest.settle(true));
    return sender;
}

std::vector<u64> IpiSender::finish(u64 count) {
    std::vector<u64> sent = guest_.read64(client::layout::samples, count);
    guest_.drop();
    return sent;
}

} // namespace refhv::front
