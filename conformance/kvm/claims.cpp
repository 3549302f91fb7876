// SPDX-License-Identifier: MIT
// What a guest of Linux's KVM rests on: what goes in comes out, what exits to us is what the guest did, and
// KVM counts what it answers by itself. The sections are of what the guest may expect of its CPU; how KVM
// tells it to user space is in Linux's Documentation/virt/kvm/api.rst, 5 ("The kvm_run structure").
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"

#include <random>

namespace refhv::front {

using abi::Mode;
using abi::Reason;
using client::Guest;

namespace {

constexpr u64 rounds = 256;

SAMPLED_GUEST(guest_cpuid, "", "xor %eax, %eax", "cpuid")
GUEST(guest_cpuid_once, "xor %eax, %eax\n xor %ecx, %ecx\n cpuid")
GUEST(guest_nothing, "nop")
GUEST(guest_out8, "out %al, %dx")
GUEST(guest_out16, "out %ax, %dx")
GUEST(guest_out32, "out %eax, %dx")
GUEST(guest_in8, "in %dx, %al")
GUEST(guest_in32, "in %dx, %eax")
GUEST(guest_store, "mov %rax, (%rsi)")
GUEST(guest_load, "mov (%rsi), %rax")
// Behind an empty IDT an exception is a triple fault (SDM 3A 6.15, interrupt 8).
GUEST(guest_triple_fault, "push $0\n push $0\n lidt (%rsp)\n ud2")
GUEST(guest_spins, "1: jmp 1b")
GUEST(guest_cr8_up_and_down,
      "mov $9, %eax\n mov %rax, %cr8\n mov %cr8, %rbx\n mov $2, %eax\n mov %rax, %cr8\n mov %cr8, %rcx")

client::Plan plan(Mode mode) {
    client::Plan out;
    out.mode = mode;
    return out;
}

} // namespace

class Kvm : public Claim {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::kvm; }
    // As the guest left it, where the run ended by its HLT.
    client::RunResult finished(Guest& guest, const Guest::Options& options = {}) {
        auto r = guest.run(options);
        EXPECT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
        EXPECT_EQ(r.exceptions.count, 0u) << "the first exception was vector " << r.exceptions.vector;
        return r;
    }
};

TEST_F(Kvm, exits_are_counted) {
    claim({"SDM 3C 26.1.2", "APM 2 15.9"}, [&] {
        if (hello().fixed.status != static_cast<u16>(abi::BackendStatus::usable)) {
            GTEST_SKIP() << "this KVM uses neither VMX nor SVM: what exits is its own affair";
        }
        Guest guest(host(), plan(mode()));
        guest.load(guest_cpuid.control);
        const auto without = finished(guest, {.rounds = rounds, .samples = rounds});
        guest.load(guest_cpuid.operation);
        const auto with = finished(guest, {.rounds = rounds, .samples = rounds});
        if (with.reply.entries == 0) {
            GTEST_SKIP() << "this KVM keeps no binary statistics (Linux before 5.14)";
        }
        EXPECT_GE(with.reply.entries, rounds) << "each CPUID exits, whatever the controls";
        EXPECT_LT(without.reply.entries, rounds) << "the premise: without CPUID there are fewer exits";
    });
}

TEST_F(Kvm, state_that_goes_in_comes_out) {
    claim({"SDM 3C 27.3.2", "APM 2 15.5.1"}, [&] {
        std::mt19937_64 random(1);
        for (int turn = 0; turn < 8; ++turn) {
            Guest guest(host(), plan(mode()));
            guest.load(guest_nothing);
            for (u64& gpr : guest.state.gpr) {
                gpr = random();
            }
            constexpr u64 arithmetic = 0x8d5; // CF PF AF ZF SF OF
            guest.state.rflags = 2 | (random() & arithmetic);
            guest.state.cr2 = random();
            guest.state.cr8 = random() % 16;
            guest.state.dr[turn % 4] = random() >> 17;
            guest.state.kernel_gs_base = random() >> 17;
            guest.state.lstar = random() >> 17;
            guest.state.sysenter_eip = random() >> 33; // AMD keeps 32 bits (APM 2 6.1.2)
            guest.state.segment[abi::fs].base = random() >> 17;
            guest.state.segment[abi::gs].base = random() >> 17;
            const abi::GuestState before = guest.state;
            const abi::GuestState after = finished(guest).reply.state;
            for (usize i = 0; i < 16; ++i) {
                EXPECT_EQ(after.gpr[i], before.gpr[i]) << "general register " << i;
            }
            EXPECT_EQ(after.rflags, before.rflags);
            EXPECT_EQ(after.cr0, before.cr0);
            EXPECT_EQ(after.cr2, before.cr2);
            EXPECT_EQ(after.cr3, before.cr3);
            EXPECT_EQ(after.cr4, before.cr4);
            EXPECT_EQ(after.cr8, before.cr8);
            EXPECT_EQ(after.efer, before.efer);
            EXPECT_EQ(after.dr[turn % 4], before.dr[turn % 4]);
            EXPECT_EQ(after.kernel_gs_base, before.kernel_gs_base);
            EXPECT_EQ(after.lstar, before.lstar);
            EXPECT_EQ(after.sysenter_eip, before.sysenter_eip);
            EXPECT_EQ(after.segment[abi::fs].base, before.segment[abi::fs].base);
            EXPECT_EQ(after.segment[abi::gs].base, before.segment[abi::gs].base);
            EXPECT_EQ(after.segment[abi::cs].selector, before.segment[abi::cs].selector);
            EXPECT_EQ(after.pat, before.pat);
        }
    });
}

TEST_F(Kvm, cpuid_changes_its_four_registers_and_no_other) {
    claim({"SDM 2A 3.3, CPUID", "APM 3, CPUID"}, [&] {
        Guest guest(host(), plan(mode()));
        guest.load(guest_cpuid_once);
        for (usize i = 0; i < 16; ++i) {
            guest.state.gpr[i] = i == abi::rsp ? guest.state.gpr[i] : 0x1111'1111'1111'1111 * i;
        }
        const abi::GuestState before = guest.state;
        const abi::GuestState after = finished(guest).reply.state;
        EXPECT_GE(after.gpr[abi::rax], 1u) << "the largest leaf";
        for (const abi::Gpr gpr : {abi::rax, abi::rbx, abi::rcx, abi::rdx}) {
            EXPECT_EQ(after.gpr[gpr] >> 32, 0u) << "the upper half of general register " << gpr;
        }
        for (const abi::Gpr gpr : {abi::rsp, abi::rbp, abi::rsi, abi::rdi, abi::r8, abi::r15}) {
            EXPECT_EQ(after.gpr[gpr], before.gpr[gpr]) << "general register " << gpr;
        }
    });
}

// From the first port to the last that such an access fits before.
TEST_F(Kvm, an_access_to_a_port_comes_with_port_size_and_direction) {
    claim({"SDM 3C 28.2.1, table 28-5", "APM 2 15.10.2"}, [&] {
        struct Access {
            client::GuestCode code;
            u64 size;
            bool in;
        };
        for (const Access& access :
             {Access{guest_out8, 1, false}, Access{guest_out16, 2, false}, Access{guest_out32, 4, false},
              Access{guest_in8, 1, true}, Access{guest_in32, 4, true}}) {
            for (const u64 port :
                 {u64{0}, u64{0x80}, u64{0x3f8}, u64{0x7fff}, u64{0xffff} - access.size + 1}) {
                Guest guest(host(), plan(mode()));
                guest.load(access.code);
                guest.state.gpr[abi::rdx] = port;
                guest.state.gpr[abi::rax] = 0;
                const auto r = guest.run({});
                ASSERT_EQ(r.outcome, abi::Outcome::exited);
                ASSERT_EQ(static_cast<Reason>(r.reply.exit.reason),
                          access.in ? Reason::io_in : Reason::io_out)
                    << "port " << port;
                EXPECT_EQ(r.reply.exit.qualification, (access.size - 1) | (access.in ? 8u : 0u) | port << 16);
                // What was read is all ones, in as many bytes as were asked for.
                const u64 ones = access.size == 4 ? 0xffff'ffff : (u64{1} << 8 * access.size) - 1;
                EXPECT_EQ(r.reply.state.gpr[abi::rax], access.in ? ones : 0);
                EXPECT_GT(r.reply.state.rip, u64{client::layout::code}) << "the access is over";
            }
        }
    });
}

TEST_F(Kvm, an_access_where_no_memory_is_comes_with_its_address) {
    claim({"SDM 3C 29.3.3.2", "APM 2 15.25.6"}, [&] {
        constexpr u64 nowhere = 0x1'2345'6000;
        for (const bool write : {false, true}) {
            Guest guest(host(), plan(mode()));
            // The first page of the arena's slot in the guest's own tables, led to where the VM has no
            // memory.
            guest.fill(client::layout::page_tables, client::layout::base | 0x67, page_size, 1, true);
            guest.fill(client::layout::page_tables + 8 * 0x60, nowhere | 0x67, 0, 1, false);
            guest.load(write ? guest_store : guest_load);
            const u64 offset = 0x108;
            guest.state.gpr[abi::rsi] = client::layout::base + 0x60 * page_size + offset;
            guest.state.gpr[abi::rax] = 0;
            const auto r = guest.run({});
            ASSERT_EQ(r.outcome, abi::Outcome::exited);
            ASSERT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::nested_violation);
            EXPECT_EQ(r.reply.exit.guest_physical, nowhere + offset);
            EXPECT_EQ(r.reply.exit.qualification, write ? 2u : 1u);
            EXPECT_EQ(r.reply.state.gpr[abi::rax], write ? 0 : ~u64{0});
        }
    });
}

TEST_F(Kvm, cr8_goes_up_and_down) {
    claim({"SDM 3A 11.8.6.1", "APM 2 8.6.5"}, [&] {
        Guest guest(host(), plan(mode()));
        guest.load(guest_cr8_up_and_down);
        const abi::GuestState after = finished(guest).reply.state;
        EXPECT_EQ(after.gpr[abi::rbx], 9u);
        EXPECT_EQ(after.gpr[abi::rcx], 2u);
        EXPECT_EQ(after.cr8, 2u);
    });
}

TEST_F(Kvm, a_triple_fault_ends_the_guest) {
    claim({"SDM 3C 26.2", "APM 2 15.14.3"}, [&] {
        Guest guest(host(), plan(mode()));
        guest.load(guest_triple_fault);
        const auto r = guest.run({});
        EXPECT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::triple_fault);
    });
}

// About the client: a guest that never exits comes back all the same, and the target goes on.
TEST_F(Kvm, a_guest_that_spins_is_ended_by_its_deadline) {
    claim({"SDM 3C 25.5.1", "APM 2 15.13.1"}, [&] {
        Guest guest(host(), plan(mode()));
        guest.load(guest_spins);
        constexpr u64 ticks = 50'000'000;
        const auto r = guest.run({.deadline = ticks});
        EXPECT_EQ(r.outcome, abi::Outcome::deadline);
        EXPECT_EQ(r.reply.state.rip, u64{client::layout::code});
        EXPECT_GE(r.reply.tsc_end - r.reply.tsc_begin, ticks / 2);
        guest.load(guest_nothing);
        finished(guest);
    });
}

} // namespace refhv::front
