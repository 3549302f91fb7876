// SPDX-License-Identifier: MIT
// Events that wait for the guest (abi::Delivery): asked for at a CPUID that exits, delivered at a window that
// the CPU reports, or by the CPU alone. Behind the CPUID the guest opens itself, or is open already.
#include "conformance/intr/case.hpp"
#include "refhv/front/guests/apic_guest.hpp"

namespace refhv::front {

using abi::Delivery;
using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

#define ASKED "xor %eax, %eax\n cpuid\n"
GUEST(guest_opens_by_sti, ASKED "sti\n nop\n nop\n nop")
GUEST(guest_until_sti, ASKED "sti\n nop")
GUEST(guest_opens_by_popf, ASKED "pushf\n orl $0x200, (%rsp)\n popf\n nop\n nop")
GUEST(guest_until_popf, ASKED "pushf\n orl $0x200, (%rsp)\n popf")
GUEST(guest_asks_twice, ASKED ASKED "sti\n nop\n nop\n nop")
GUEST(guest_until_sti_of_two, ASKED ASKED "sti\n nop")
GUEST(guest_stays_shut, ASKED "nop\n nop")
#define IRET_TO_5                                                                                            \
    "mov %ss, %eax\n push %rax\n lea 8(%rsp), %rax\n push %rax\n pushf\n mov %cs, %eax\n push %rax\n"        \
    "lea 5f(%rip), %rax\n push %rax\n"
GUEST(guest_returns_from_nmi, IRET_TO_5 ASKED "iretq\n 5: nop\n nop")
GUEST(guest_until_return, IRET_TO_5 ASKED "iretq\n 5:")
GUEST(guest_stays_in_nmi, ASKED "nop\n nop")

struct Opener {
    const char* what;
    client::GuestCode guest, until; // `until`: as long as what comes before the interrupt; empty: none comes
    u64 asked;                      // exits by CPUID
};

const std::vector<Opener>& openers() {
    static const std::vector<Opener> all{
        {"STI", guest_opens_by_sti, guest_until_sti, 1},
        {"POPF", guest_opens_by_popf, guest_until_popf, 1},
        {"STI, asked for twice", guest_asks_twice, guest_until_sti_of_two, 2},
        {"nothing", guest_stays_shut, {}, 1}};
    return all;
}

constexpr u8 cpuid_length = 2;

} // namespace

class InjectMeans : public Intr {
  protected:
    static client::Plan plan(Delivery how, u32 event) {
        client::Plan p;
        p.arena_pages = apic::arena_pages;
        p.intercepts = client::on(abi::Intercept::cpuid);
        p.policy = {{.reason = static_cast<u16>(Reason::cpuid),
                     .action = static_cast<u8>(abi::Action::deliver),
                     .length = cpuid_length,
                     .event = event | static_cast<u32>(how) << 12}};
        return p;
    }

    // One event, where and as it should be, or none.
    static void expect_event(const client::RunResult& r, const Opener& o, u64 vector) {
        expect_stopped(r);
        EXPECT_EQ(r.count(Reason::cpuid), o.asked);
        EXPECT_EQ(r.exceptions.count, o.until.size() != 0 ? 1u : 0u);
        if (o.until.size() != 0) {
            EXPECT_EQ(r.exceptions.vector, vector);
            EXPECT_EQ(r.exceptions.rip, code + o.until.size());
        }
    }
};

TEST_F(InjectMeans, interrupt_waits_until_the_guest_is_open) {
    claim({"SDM 3C 26.2, 27.6.1", "APM 2 15.20, 15.21.4"}, [&] {
        for (const Opener& o : openers()) {
            SCOPED_TRACE(o.what);
            Guest guest(host(), plan(Delivery::when_open, free_vector));
            guest.load(o.guest);
            const auto r = guest.run({});
            expect_event(r, o, free_vector);
            EXPECT_EQ(r.count(Reason::interrupt_window), o.until.size() != 0 ? 1u : 0u);
            EXPECT_EQ(r.reply.handled, o.asked + (o.until.size() != 0 ? 1 : 0));
        }
        combinations(openers().size());
    });
}

TEST_F(InjectMeans, virtual_interrupt_comes_without_another_exit) {
    claim({"SDM 3C 30.2.1, 30.2.2", "APM 2 15.21.4"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::delivery};
        if (const std::string why = on_vmx() ? apic::lacking(hello(), needed) : ""; !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const Opener& o : openers()) {
            SCOPED_TRACE(o.what);
            Guest guest(host(), plan(Delivery::virtually, free_vector));
            guest.load(o.guest);
            if (on_vmx()) {
                apic::virtualize(guest, needed);
            }
            const auto r = guest.run({});
            expect_event(r, o, free_vector);
            EXPECT_EQ(r.count(Reason::interrupt_window), 0u);
            EXPECT_EQ(r.reply.entries, o.asked + 1);
        }
        combinations(openers().size());
    });
}

TEST_F(InjectMeans, vmx_nmi_waits_until_nmis_are_unblocked) {
    claim({.sdm = "SDM 3C 26.2, 27.6.1"}, [&] {
        if (!offers(vmcs::pin_controls, vmcs::pin_virtual_nmis) ||
            !offers(vmcs::proc_controls, vmcs::proc_nmi_window)) {
            GTEST_SKIP() << "no virtual NMIs and NMI-window exiting (IA32_VMX_PINBASED_CTLS[37], "
                            "IA32_VMX_PROCBASED_CTLS[54])";
        }
        constexpr u32 nmi = 2 << 8 | 2;
        const std::vector<Opener> all{{"IRET", guest_returns_from_nmi, guest_until_return, 1},
                                      {"nothing", guest_stays_in_nmi, {}, 1}};
        for (const Opener& o : all) {
            SCOPED_TRACE(o.what);
            Guest guest(host(), plan(Delivery::when_open, nmi));
            guest.load(o.guest);
            change(guest, vmcs::pin_controls, vmcs::pin_virtual_nmis);
            guest.field(vmcs::interruptibility, 4, vmcs::blocking_by_nmi);
            const auto r = guest.run({});
            expect_event(r, o, 2);
            EXPECT_EQ(r.count(Reason::nmi_window), o.until.size() != 0 ? 1u : 0u);
        }
        end_nmi_blocking();
        combinations(all.size());
    });
}

} // namespace refhv::front
