// SPDX-License-Identifier: MIT
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

GUEST(guest_nops, "nop\n nop\n nop")
GUEST(guest_sti, "sti\n nop\n nop")
GUEST(guest_sti_twice, "sti\n sti\n nop")
GUEST(guest_sti_cli, "sti\n cli\n nop")
GUEST(guest_popf, "pushf\n orl $0x200, (%rsp)\n popf\n nop\n nop")
GUEST(guest_popf_end, "pushf\n orl $0x200, (%rsp)\n popf")
#define POPF_BEHIND_MOV_SS "pushf\n orl $0x200, (%rsp)\n mov %ss, %eax\n mov %eax, %ss\n popf"
GUEST(guest_mov_ss, POPF_BEHIND_MOV_SS "\n nop\n nop")
GUEST(guest_mov_ss_end, POPF_BEHIND_MOV_SS)

} // namespace

std::vector<Opening> Intr::openings() {
    return {
        {"IF = 1", guest_nops, true, false, 0, true},
        {"IF = 0", guest_nops, false, false, Opening::never, true},
        {"IF = 1 in a shadow", guest_nops, true, true, 1, true},
        {"behind STI", guest_sti, false, false, 2},
        {"STI with IF = 1 already makes no shadow", guest_sti_twice, false, false, 2},
        {"CLI in the shadow of STI", guest_sti_cli, false, false, Opening::never},
        {"POPF makes no shadow", guest_popf, false, false, guest_popf_end.size()},
        {"POPF in the shadow of MOV SS", guest_mov_ss, false, false, guest_mov_ss_end.size()},
    };
}

void Intr::prepare(Guest& guest, const Opening& opening) {
    guest.state.rflags = 2 | (opening.enabled ? rflags_if : 0);
    guest.state.interrupt_shadow = opening.shadowed ? 1 : 0;
    guest.load(opening.code);
}

bool Intr::offers(u32 control_field, u64 bits) {
    return front::offers(hello(), control_field, bits);
}

void Intr::change(Guest& guest, u32 field, u64 set, u64 clear) {
    front::change(guest, field, set, clear);
}

void Intr::end_nmi_blocking() {
    Guest guest(host(), client::Plan{});
    guest.load(guest_nops);
    change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
    inject(guest, {.type = EventType::hardware_exception, .vector = 6});
    static_cast<void>(guest.run({.handler_advance = 1}));
}

void Intr::expect_exit(const client::RunResult& r, Reason reason, u64 rip) {
    EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
    EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), reason);
    EXPECT_EQ(r.reply.state.rip, rip);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

void Intr::expect_stopped(const client::RunResult& r) {
    EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
    EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
    EXPECT_EQ(r.reply.state.rip, client::layout::stop);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

} // namespace refhv::front
